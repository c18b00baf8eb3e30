// The terms of an edit, y = x + c · Σ_k g_k(u_k·x + b_k) · v_k, and what they may read instead of
// x.
#pragma once
#include <ATen/core/Tensor.h>
#include <torch/csrc/jit/api/module.h>

#include <cstdint>
#include <optional>

namespace vyx {

/// g(z) = constant + linear·z + rectified·relu(z) + step·[z > 0].
struct Gate {
  double constant = 0, linear = 0, rectified = 0, step = 0;
  bool reads() const { return linear != 0 || rectified != 0 || step != 0; }
};

/// Holds where w·x + b' > 0.
struct Condition {
  at::Tensor reader;    // w [d]
  double bias = 0;      // b'
  int64_t column = -1;  // of the readout, which stands for w·x where an edit has one
};

struct Term {
  at::Tensor reader;                   // u [d]; undefined when the gate reads nothing
  double bias = 0;                     // b
  Gate gate;                           // all 0: the term keeps its place and adds nothing
  at::Tensor writer;                   // v [d]
  std::optional<Condition> condition;  // the term is added only where it holds
  int64_t column = -1;  // of the readout, which stands for u·x where an edit has one

  /// y = x + v.
  static Term add(const at::Tensor& vector);
  /// y = x − (x·v̂) v̂: the part along the direction is taken out (Arditi et al. 2024,
  /// arXiv:2406.11717).
  static Term ablate(const at::Tensor& direction);
  /// y = x − relu(x·v̂) v̂ + value·v̂ (AxBench, Wu et al. 2025, arXiv:2501.17148). `direction` is
  /// normalised.
  static Term clamp(const at::Tensor& direction, double value);
};

/// What the terms of an edit read instead of x. The module has forward(x [.., d]) → (z [..,
/// columns], spread [.., 1] | None, base [.., d] | None), all in float32; the edit is then
///
///     y = x + c · (spread · Σ_k g_k(z_k + b_k) · v_k + base)
///
/// with spread 1 and base 0 where there is None.
struct Readout {
  torch::jit::Module module;
  int64_t columns = 0;
};

}  // namespace vyx
