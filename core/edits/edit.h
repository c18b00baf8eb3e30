// An edit: a function x → y of activations, as a sum of gated rank-one terms,
//
//     y = x + c · Σ_k g_k(u_k·x + b_k) · v_k,      g(z) = constant + linear·z + rectified·relu(z) +
//     step·[z > 0].
//
// A control vector, an ablation, a clamp and a latent of a sparse autoencoder are all of this form
// (README.md of this folder has the table), so that one kernel, one TorchScript template (bake.h)
// and one file format serve them all. What an edit adds, v = y − x, is its implicit vector. A term
// may have a condition, and what the terms read may be computed by a TorchScript module, the edit's
// readout, where no rows of a matrix can say it.
#pragma once
#include <ATen/core/Tensor.h>
#include <torch/csrc/jit/api/module.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace vyx {

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
};

/// What the terms of an edit read instead of x. The module has forward(x [.., d]) → (z [..,
/// columns], spread [.., 1] | None, base [.., d] | None), all in float32; the edit is then
///
///     y = x + c · (spread · Σ_k g_k(z_k + b_k) · v_k + base),      spread 1 and base 0 where there
///     is None.
struct Readout {
  torch::jit::Module module;  // runs where its tensors are
  int64_t columns = 0;
};

/// y = x + v.
Term add(const at::Tensor& vector);
/// y = x − (x·v̂) v̂: the part along the direction is taken out (Arditi et al. 2024,
/// arXiv:2406.11717).
Term ablate(const at::Tensor& direction);
/// y = x − relu(x·v̂) v̂ + value·v̂ (AxBench, Wu et al. 2025, arXiv:2501.17148). `direction` is
/// normalised.
Term clamp(const at::Tensor& direction, double value);

/// A sum of terms on activations [.., d]. Immutable; copies share their tensors.
class Edit {
 public:
  /// Throws Error when the terms' widths differ, a value is not finite, a gate reads without a
  /// reader, or a column is not the readout's.
  explicit Edit(std::vector<Term> terms, std::optional<Readout> readout = {});

  int64_t width() const { return width_; }  // d
  const std::vector<Term>& terms() const { return terms_; }
  const std::optional<Readout>& readout() const { return readout_; }

  /// y [.., d] for x [.., d], computed in float32 and returned in x's type. `coefficients` is c:
  /// undefined (1), a scalar [], one a batch row [batch], or one a row and term [batch, terms] (a
  /// readout's base belongs to no term: it is added whole then). A scalar 0 returns x itself, as
  /// does an edit whose terms add nothing. Gradients flow through x.
  at::Tensor apply(const at::Tensor& x, const at::Tensor& coefficients = {}) const;
  /// The same with one coefficient for all, and no tensor to read it from.
  at::Tensor apply_scaled(const at::Tensor& x, double coefficient) const;

  /// The terms as stacked float32 tensors: what apply() and a baked module compute with.
  struct Table {
    at::Tensor constant;  // Σ constant_k · v_k over the terms that read nothing [d]; undefined when
                          // every term reads
    at::Tensor readers;  // u of the terms that read, then w of conditions [rows, d]; undefined with
                         // a readout
    at::Tensor columns;  // those of the readout [rows] int64; undefined without one
    at::Tensor biases;   // b, then b' [rows]
    at::Tensor gates;  // constant, linear, rectified, step [4, reading]; undefined, as the others,
                       // when no term reads
    Gate uses;  // 1 for each part of a gate that a reading term has: the others are not computed
    at::Tensor conditions;  // the row that opens each term [reading] int64; undefined when no term
                            // has a condition
    at::Tensor
        floors;  // above which it opens it: 0, or −inf for a term without a condition [reading]
    at::Tensor writers;                                  // v [reading, d]
    std::vector<int64_t> constant_terms, reading_terms;  // which terms these are
  };
  const Table& table() const { return table_; }

 private:
  struct Reading;
  Reading read(const at::Tensor& x) const;
  at::Tensor gate(const at::Tensor& rows) const;
  at::Tensor sum(const Reading& reading, const at::Tensor& gates, const at::Tensor& constant) const;
  at::Tensor vector_at(const at::Tensor& x) const;

  std::vector<Term> terms_;
  std::optional<Readout> readout_;
  Table table_;
  at::Tensor constants_;  // constant_k · v_k of the terms that read nothing [constants, d]
  at::Tensor constant_of_,
      reader_of_;  // which terms these are, and which read [constants], [reading] int64
  int64_t width_ = 0;
};

/// v = y − x of an edit at x [.., d].
at::Tensor implicit_vector(const Edit& edit, const at::Tensor& x,
                           const at::Tensor& coefficients = {});

}  // namespace vyx
