#include "sae/files/weight_reader.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "core/base/error.h"
#include "core/base/text.h"

namespace vyx::sae {

const at::Tensor& WeightReader::find(const std::string& name, std::string_view expected) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end())
    fail("{}: tensor {}: found nothing, expected {}", source_, quote(name), expected);
  return found->second;
}

std::pair<int64_t, int64_t> WeightReader::matrix_sizes(const std::string& name) const {
  const at::Tensor& tensor = find(name, "a matrix");
  if (tensor.dim() != 2)
    fail("{}: tensor {}: found shape [{}], expected a matrix", source_, quote(name),
         fmt::join(tensor.sizes(), ", "));
  return {tensor.size(0), tensor.size(1)};
}

at::Tensor WeightReader::take(const std::string& name, const std::vector<int64_t>& shape) {
  const std::string expected = fmt::format("[{}]", fmt::join(shape, ", "));
  const at::Tensor tensor = find(name, expected);
  if (tensor.sizes() != at::IntArrayRef(shape))
    fail("{}: tensor {}: found shape [{}], expected {}", source_, quote(name),
         fmt::join(tensor.sizes(), ", "), expected);
  if (!tensor.is_floating_point())
    fail("{}: tensor {}: found {}, expected floating-point numbers", source_, quote(name),
         c10::toString(tensor.scalar_type()));
  tensors_.erase(name);
  return tensor.to(at::kFloat);
}

at::Tensor WeightReader::take_transposed(const std::string& name, int64_t rows, int64_t columns) {
  return take(name, {rows, columns}).t().contiguous();
}

double WeightReader::take_number(const std::string& name) {
  const at::Tensor tensor = find(name, "a number");
  if (tensor.numel() != 1)
    fail("{}: tensor {}: found shape [{}], expected one number", source_, quote(name),
         fmt::join(tensor.sizes(), ", "));
  tensors_.erase(name);
  return tensor.to(at::kDouble).item<double>();
}

void WeightReader::require_all_taken() const {
  if (!tensors_.empty())
    fail("{}: tensor {}: found in the file, expected no such tensor in an autoencoder of this kind",
         source_, quote(tensors_.begin()->first));
}

Autoencoder with_decoder_bias_subtracted(const Autoencoder& sae, bool subtracted,
                                         std::string_view source) {
  if (sae.config.subtract_decoder_bias == subtracted) return sae;
  if (sae.config.d_in != sae.config.d_out)
    fail(
        "{}: found outputs of width {} for inputs of {}, expected the same, since this format "
        "subtracts b_dec from the input",
        source, sae.config.d_out, sae.config.d_in);
  Autoencoder moved = sae;
  moved.config.subtract_decoder_bias = subtracted;
  const at::Tensor shift = at::mv(sae.weights.encoder, sae.weights.decoder_bias) *
                           (subtracted ? 1.0 : -1.0);  // [latents]
  moved.weights.encoder_bias = sae.weights.encoder_bias + shift;
  if (sae.weights.magnitude_bias.defined())
    moved.weights.magnitude_bias =
        sae.weights.magnitude_bias + shift * sae.weights.magnitude_scale.exp();
  return moved;
}

at::Tensor thresholds_to_write(const Autoencoder& sae, std::string_view source) {
  const at::Tensor found = thresholds(sae);  // [latents]
  if (!found.defined())
    fail(
        "{}: found architecture {}, expected one with a threshold for each latent (relu, "
        "batch-topk, jump-relu); save it as saelens",
        source, name_of(sae.config.architecture));
  return found;
}

}  // namespace vyx::sae
