#include "sae/autoencoder/autoencoder.h"

#include <ATen/Functions.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "core/base/error.h"

namespace vyx::sae {
namespace {

constexpr std::array<std::pair<Architecture, std::string_view>, 5> kArchitectures{
    {{Architecture::relu, "relu"},
     {Architecture::gated, "gated"},
     {Architecture::topk, "topk"},
     {Architecture::batch_topk, "batch-topk"},
     {Architecture::jump_relu, "jump-relu"}}};
constexpr std::array<std::pair<Normalization, std::string_view>, 4> kNormalizations{
    {{Normalization::none, "none"},
     {Normalization::scale, "scale"},
     {Normalization::token_norm, "token-norm"},
     {Normalization::layer_norm, "layer-norm"}}};
constexpr double kLayerNormEpsilon = 1e-5, kLeastSpread = 1e-12;

template <class Names, class Value>
std::string_view find_name(const Names& names, Value value) {
  return std::find_if(names.begin(), names.end(),
                      [&](const auto& entry) { return entry.first == value; })
      ->second;
}

template <class Names>
auto find_value(const Names& all, std::string_view what, std::string_view name) {
  std::vector<std::string_view> names;
  for (const auto& [value, known] : all) {
    if (known == name) return value;
    names.push_back(known);
  }
  throw UsageError(
      fmt::format("found {} '{}', expected one of {}", what, name, fmt::join(names, ", ")));
}

at::Tensor keep_largest(const at::Tensor& z, int64_t k) {  // z [.., latents]
  const auto [values, indices] = z.topk(k, -1);            // [.., k]
  return at::zeros_like(z).scatter(-1, indices, values.relu());
}

at::Tensor encode_normalized(const Autoencoder& sae, const at::Tensor& x) {  // x' [.., d_in]
  const auto& [config, w, topk_threshold] = sae;
  const at::Tensor centered = config.subtract_decoder_bias ? x - w.decoder_bias : x;
  if (config.architecture == Architecture::gated) {
    const at::Tensor product = at::linear(centered, w.encoder);  // [.., latents]
    const at::Tensor magnitude = product * w.magnitude_scale.exp() + w.magnitude_bias;
    return magnitude.relu() * (product + w.encoder_bias > 0);
  }
  const at::Tensor z = at::linear(centered, w.encoder, w.encoder_bias);  // [.., latents]
  switch (config.architecture) {
    case Architecture::topk:
      return keep_largest(z, config.k);
    case Architecture::batch_topk:
      return z * (z > std::max(topk_threshold, 0.0));
    case Architecture::jump_relu:
      return z * (z > w.threshold);
    default:
      return z.relu();
  }
}

void require_width(const at::Tensor& x, int64_t width, const char* what) {
  if (x.dim() < 1 || x.size(-1) != width)
    fail("{} of shape [{}], expected [.., {}]; is the autoencoder for another site or model?", what,
         fmt::join(x.sizes(), ", "), width);
}

}  // namespace

std::string_view name_of(Architecture architecture) {
  return find_name(kArchitectures, architecture);
}

Architecture architecture_from_name(std::string_view name) {
  return find_value(kArchitectures, "architecture", name);
}

std::string_view name_of(Normalization normalization) {
  return find_name(kNormalizations, normalization);
}

Normalization normalization_from_name(std::string_view name) {
  return find_value(kNormalizations, "normalization", name);
}

void validate(const AutoencoderConfig& config, std::string_view source) {
  constexpr int64_t kMaxWidth = 1 << 24,
                    kMaxLatents = int64_t{1} << 31;  // a latent's index is an int32
  const auto require = [&](bool good, std::string_view what, auto found,
                           std::string_view expected) {
    if (!good) fail("{}: {}: found {}, expected {}", source, what, found, expected);
  };
  require(config.d_in > 0 && config.d_in <= kMaxWidth, "d_in", config.d_in, "a width of 1 to 2^24");
  require(config.d_out > 0 && config.d_out <= kMaxWidth, "d_out", config.d_out,
          "a width of 1 to 2^24");
  require(config.latents > 0 && config.latents < kMaxLatents, "latents", config.latents,
          "1 to 2^31 − 1");
  const bool uses_k =
      config.architecture == Architecture::topk || config.architecture == Architecture::batch_topk;
  if (uses_k)
    require(config.k > 0 && config.k <= config.latents, "k", config.k,
            fmt::format("1 to the {} latents", config.latents));
  if (!config.prefixes.empty()) {
    require(config.architecture == Architecture::batch_topk, "prefixes with architecture",
            name_of(config.architecture), "batch-topk");
    require(config.prefixes.front() > 0 && config.prefixes.back() == config.latents &&
                std::is_sorted(config.prefixes.begin(), config.prefixes.end(), std::less_equal<>{}),
            "prefixes", fmt::format("[{}]", fmt::join(config.prefixes, ", ")),
            fmt::format("rising numbers that end with the {} latents", config.latents));
  }
  if (config.normalization == Normalization::scale)
    require(std::isfinite(config.scale) && config.scale > 0, "scale", config.scale,
            "a positive number");
  if (config.subtract_decoder_bias)
    require(config.d_in == config.d_out, "d_out", config.d_out,
            "d_in, since b_dec is subtracted from x");
}

void validate(const Autoencoder& sae, std::string_view source) {
  const AutoencoderConfig& config = sae.config;
  validate(config, source);
  const bool gated = config.architecture == Architecture::gated,
             jump = config.architecture == Architecture::jump_relu;
  const Parameters& w = sae.weights;
  const auto require = [&](const char* name, const at::Tensor& tensor, bool wanted,
                           std::vector<int64_t> shape) {
    if (tensor.defined() && !wanted)
      fail("{}: found a tensor {}, expected none for {}", source, name,
           name_of(config.architecture));
    if (!wanted) return;
    if (!tensor.defined())
      fail("{}: found no tensor {}, expected [{}]", source, name, fmt::join(shape, ", "));
    if (tensor.sizes() != at::IntArrayRef(shape))
      fail("{}: found {} of shape [{}], expected [{}]", source, name,
           fmt::join(tensor.sizes(), ", "), fmt::join(shape, ", "));
    if (tensor.scalar_type() != at::kFloat)
      fail("{}: found {} in {}, expected float32", source, name,
           c10::toString(tensor.scalar_type()));
    if (!tensor.isfinite().all().item<bool>())
      fail("{}: found NaN or infinity in {}, expected finite numbers", source, name);
  };
  require("W_enc", w.encoder, true, {config.latents, config.d_in});
  require("b_enc", w.encoder_bias, true, {config.latents});
  require("W_dec", w.decoder, true, {config.latents, config.d_out});
  require("b_dec", w.decoder_bias, true, {config.d_out});
  require("r_mag", w.magnitude_scale, gated, {config.latents});
  require("b_mag", w.magnitude_bias, gated, {config.latents});
  require("threshold", w.threshold, jump, {config.latents});
  require("W_skip", w.skip, w.skip.defined(), {config.d_out, config.d_in});
}

Normalized normalize(const AutoencoderConfig& config, const at::Tensor& x) {
  switch (config.normalization) {
    case Normalization::none:
      return {x, {}, {}};
    case Normalization::scale:
      return {x * config.scale, {}, at::scalar_tensor(1 / config.scale, x.options())};
    case Normalization::token_norm: {
      // [.., 1]; a token of zeros stays one
      const at::Tensor spread =
          (x.norm(2, {-1}, /*keepdim=*/true) / std::sqrt(static_cast<double>(x.size(-1))))
              .clamp_min(kLeastSpread);
      return {x / spread, {}, spread};
    }
    case Normalization::layer_norm: {
      const at::Tensor center = x.mean({-1}, /*keepdim=*/true);                    // [.., 1]
      const at::Tensor spread = x.std({-1}, /*unbiased=*/true, /*keepdim=*/true);  // [.., 1]
      return {(x - center) / (spread + kLayerNormEpsilon), center,
              spread};  // on the way back without it, as OpenAI and SAELens
    }
  }
  fail("a normalisation that vyx does not know");
}

at::Tensor encode(const Autoencoder& sae, const at::Tensor& x) {
  require_width(x, sae.config.d_in, "x");
  return encode_normalized(sae, normalize(sae.config, x.to(at::kFloat)).x);
}

at::Tensor decode(const Autoencoder& sae, const at::Tensor& f, const at::Tensor& x) {
  require_width(f, sae.config.latents, "f");
  const AutoencoderConfig& config = sae.config;
  const bool per_token = config.normalization == Normalization::token_norm ||
                         config.normalization == Normalization::layer_norm;
  if ((per_token || sae.weights.skip.defined()) && !x.defined())
    fail("decode without x; this autoencoder's {} needs it",
         per_token ? "normalisation" : "skip connection");
  at::Tensor y = at::matmul(f, sae.weights.decoder) + sae.weights.decoder_bias;  // x̂' [.., d_out]
  if (!x.defined()) return config.normalization == Normalization::scale ? y / config.scale : y;
  require_width(x, config.d_in, "x");
  const Normalized normalized = normalize(config, x.to(at::kFloat));
  if (sae.weights.skip.defined()) y = y + at::linear(normalized.x, sae.weights.skip);
  if (normalized.spread.defined()) y = y * normalized.spread;
  if (normalized.center.defined()) y = y + normalized.center;
  return y;
}

std::vector<at::Tensor> encodable_parts(const Autoencoder& sae, const at::Tensor& x) {
  constexpr int64_t kMaxElements = 1 << 24;  // of dense latents at once: 64 MiB
  require_width(x, sae.config.d_in, "x");
  return x.split(std::max<int64_t>(1, kMaxElements / sae.config.latents));
}

at::Tensor reconstruct(const Autoencoder& sae, const at::Tensor& x) {
  require_width(x, sae.config.d_in, "x");
  const at::Tensor rows = x.reshape({-1, sae.config.d_in});  // [rows, d_in]
  std::vector<at::Tensor> parts;
  for (const at::Tensor& part : encodable_parts(sae, rows))
    parts.push_back(decode(sae, encode(sae, part), part));
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = sae.config.d_out;
  return at::cat(parts).reshape(shape);
}

Autoencoder to_device(const Autoencoder& sae, c10::Device device) {
  Autoencoder moved = sae;
  moved.weights.visit([&](const char*, at::Tensor& tensor) { tensor = tensor.to(device); });
  return moved;
}

Autoencoder fold_scale(const Autoencoder& sae) {
  if (sae.config.normalization != Normalization::scale) return sae;
  const double scale = sae.config.scale;
  Autoencoder folded = sae;
  folded.config.normalization = Normalization::none;
  folded.config.scale = 1;
  folded.weights.encoder = sae.weights.encoder * scale;
  folded.weights.decoder = sae.weights.decoder / scale;
  folded.weights.decoder_bias = sae.weights.decoder_bias / scale;
  return folded;
}

}  // namespace vyx::sae
