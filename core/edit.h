// An edit: a function x → y of activations, as a sum of gated rank-one terms,
//
//     y = x + c · Σ_k g_k(u_k·x + b_k) · v_k,      g(z) = constant + linear·z + rectified·relu(z) + step·[z > 0].
//
// A control vector, an ablation, a clamp and a latent of a sparse autoencoder are all of this form (README.md of this folder has the
// table), so that one kernel, one TorchScript template (bake.h) and one file format serve them all. What an edit adds, v = y − x, is its
// implicit vector.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/hooked_module.h"

namespace vyx {

struct Gate {
  double constant = 0, linear = 0, rectified = 0, step = 0;
  bool reads() const { return linear != 0 || rectified != 0 || step != 0; }
};

struct Term {
  at::Tensor reader;  // u [d]; undefined when the gate reads nothing
  double bias = 0;    // b
  Gate gate;
  at::Tensor writer;  // v [d]
};

/// y = x + v.
Term add(const at::Tensor& vector);
/// y = x − (x·v̂) v̂: the part along the direction is taken out (Arditi et al. 2024, arXiv:2406.11717).
Term ablate(const at::Tensor& direction);
/// y = x − relu(x·v̂) v̂ + value·v̂ (AxBench, Wu et al. 2025, arXiv:2501.17148). `direction` is normalised.
Term clamp(const at::Tensor& direction, double value);

/// A sum of terms on activations [.., d]. Immutable; copies share their tensors.
class Edit {
 public:
  /// Throws Error when the terms' widths differ, a value is not finite, or a gate reads without a reader.
  explicit Edit(std::vector<Term> terms);

  int64_t width() const { return width_; }  // d
  const std::vector<Term>& terms() const { return terms_; }

  /// y [.., d] for x [.., d], computed in float32 and returned in x's type. `coefficients` is c: undefined (1), a scalar [],
  /// one a batch row [batch], or one a row and term [batch, terms]. A scalar 0 returns x itself.
  /// Gradients flow through x.
  at::Tensor apply(const at::Tensor& x, const at::Tensor& coefficients = {}) const;
  /// The same with one coefficient for all, and no tensor to read it from.
  at::Tensor apply_scaled(const at::Tensor& x, double coefficient) const;

  /// The terms as stacked float32 tensors: what apply() and a baked module compute with.
  struct Table {
    at::Tensor constant;  // Σ constant_k · v_k over the terms that read nothing [d]; undefined when every term reads
    at::Tensor readers;   // u [reading, d]; undefined when no term reads
    at::Tensor biases;    // b [reading]
    at::Tensor gates;     // constant, linear, rectified, step [4, reading]
    Gate uses;            // 1 for each part of a gate that a reading term has: the others are not computed
    at::Tensor writers;   // v [reading, d]
  };
  const Table& table() const { return table_; }

 private:
  at::Tensor gate(const at::Tensor& x) const;
  at::Tensor vector_at(const at::Tensor& x) const;

  std::vector<Term> terms_;
  Table table_;
  at::Tensor constants_;                // constant_k · v_k of the terms that read nothing [constants, d]
  at::Tensor constant_of_, reader_of_;  // which terms these are, and which read [constants], [reading] int64
  int64_t width_ = 0;
};

/// v = y − x of an edit at x [.., d].
at::Tensor implicit_vector(const Edit& edit, const at::Tensor& x, const at::Tensor& coefficients = {});

enum class Positions { all, generated };

struct AttachOptions {
  at::Tensor coefficients;  // as Edit::apply takes them
  Positions positions = Positions::all;
};

/// An edit at work in a module; ends with the handle. Counts its firings, because an edit that never fired steers nothing.
class [[nodiscard]] AttachedEdit {
 public:
  /// How many calls of the site were edited. Calls without a token to edit do not count.
  uint64_t firings() const;
  void set_coefficients(at::Tensor coefficients);
  /// Throws Error naming the site when the edit never fired.
  void require_fired() const;
  const Site& site() const;
  void remove();

 private:
  friend AttachedEdit attach(HookedModule&, const Site&, Edit, AttachOptions);
  struct State;
  std::shared_ptr<State> state_;
  HookHandle handle_;
};

/// Edits the activation at `site` in every run from now on; tokens that the current TokenMask calls padding are left alone. Throws
/// Error at run time when the activation's last dimension is not edit.width().
AttachedEdit attach(HookedModule& module, const Site& site, Edit edit, AttachOptions options = {});

}  // namespace vyx
