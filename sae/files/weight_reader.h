// What the readers of all formats share: tensors of a file, taken by name and shape, and the two
// ways to keep the decoder's bias.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/formats/tensor_file.h"
#include "sae/autoencoder/autoencoder.h"

namespace vyx::sae {

/// The tensors of a file. Each is taken once, as float32; what was not taken at the end is an
/// error, since a tensor that was not understood may be one that changes the result.
class WeightReader {
 public:
  WeightReader(TensorMap tensors, std::string source)
      : tensors_(std::move(tensors)), source_(std::move(source)) {}

  const std::string& source() const { return source_; }
  bool has(const std::string& name) const { return tensors_.count(name) != 0; }
  /// [rows, columns] of the matrix `name`, before it is taken.
  std::pair<int64_t, int64_t> matrix_sizes(const std::string& name) const;

  /// Throws Error naming the file, the tensor, its shape and the expected one.
  at::Tensor take(const std::string& name, const std::vector<int64_t>& shape);
  /// [rows, columns] in the file, [columns, rows] here.
  at::Tensor take_transposed(const std::string& name, int64_t rows, int64_t columns);
  double take_number(const std::string& name);  // a tensor of one element
  void ignore(const std::string& name) { tensors_.erase(name); }
  /// Throws Error naming a tensor that is left.
  void require_all_taken() const;

 private:
  const at::Tensor& find(const std::string& name, std::string_view expected) const;

  TensorMap tensors_;
  std::string source_;
};

/// The same function with b_dec subtracted from the encoder's input, or not: (x − b_dec)·W + b =
/// x·W + (b − b_dec·W). Throws Error naming `source` where x cannot have it subtracted: d_in ≠
/// d_out.
Autoencoder with_decoder_bias_subtracted(const Autoencoder& sae, bool subtracted,
                                         std::string_view source);

/// thresholds() of an autoencoder that is written to a format of f = z·[z > θ]. Throws Error naming
/// `source` where it has none.
at::Tensor thresholds_to_write(const Autoencoder& sae, std::string_view source);  // [latents]

}  // namespace vyx::sae
