// An edit: a function x → y of activations, as a sum of gated rank-one terms,
//
//     y = x + c · Σ_k g_k(u_k·x + b_k) · v_k
//
// A control vector, an ablation, a clamp and a latent of a sparse autoencoder are all of this form
// (README.md of this folder has the table), so that one kernel (edit_kernel.h) and one file format
// serve them all. What an edit adds, v = y − x, is its implicit vector.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "core/edits/edit_table.h"
#include "core/edits/term.h"

namespace vyx {

/// A sum of terms on activations [.., d]. Immutable; copies share their tensors.
class Edit {
 public:
  /// Throws Error when the terms' widths differ, a value is not finite, a gate reads without a
  /// reader, or a column is not the readout's.
  explicit Edit(std::vector<Term> terms, std::optional<Readout> readout = {});

  int64_t width() const { return terms_.front().writer.size(0); }  // d
  const std::vector<Term>& terms() const { return terms_; }
  const std::optional<Readout>& readout() const { return readout_; }
  const EditTable& table() const { return table_; }
  c10::Device device() const { return terms_.front().writer.device(); }

  /// y [.., d] for x [.., d] of at most kMostDimensions, computed in float32 and returned in x's
  /// type. `coefficients` is c: undefined (1), a scalar [], one per batch row [batch], or one per
  /// row and term [batch, terms] (a readout's base belongs to no term: it is added whole then). A
  /// scalar 0 returns x itself, as does an edit whose terms add nothing. Gradients flow through x.
  /// Where x is on another device, the edit is copied there for this call: `to` keeps a copy.
  at::Tensor apply(const at::Tensor& x, const at::Tensor& coefficients = {}) const;
  /// The same with one coefficient for all, and no tensor to read it from.
  at::Tensor apply_scaled(const at::Tensor& x, double coefficient) const;

  /// The edit with its tensors, and its readout's, on a device.
  Edit to(c10::Device device) const;

 private:
  void check(const at::Tensor& x) const;

  std::vector<Term> terms_;
  std::optional<Readout> readout_;
  EditTable table_;
};

/// v = y − x of an edit at x [.., d].
at::Tensor implicit_vector(const Edit& edit, const at::Tensor& x,
                           const at::Tensor& coefficients = {});

}  // namespace vyx
