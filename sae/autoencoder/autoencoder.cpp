#include "sae/autoencoder/autoencoder.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "core/base/error.h"
#include "sae/autoencoder/formulas.h"

namespace vyx::sae {
namespace {

/// Columns [.., d] of sites of one width, each through change(its columns, its scale).
template <class Change>
at::Tensor by_site(const at::Tensor& columns, const std::vector<double>& scales, Change&& change) {
  if (scales.size() == 1) return change(columns, scales.front());
  const auto sites = static_cast<int64_t>(scales.size());
  std::vector<at::Tensor> parts = columns.split(columns.size(-1) / sites, -1);
  for (size_t s = 0; s < scales.size(); ++s) parts[s] = change(parts[s], scales[s]);
  return at::cat(parts, -1);
}
at::Tensor multiplied(const at::Tensor& columns, const std::vector<double>& scales) {
  return by_site(columns, scales, [](const at::Tensor& x, double s) { return x * s; });
}
at::Tensor divided(const at::Tensor& columns, const std::vector<double>& scales) {
  return by_site(columns, scales, [](const at::Tensor& x, double s) { return x / s; });
}

/// Of x̂ [.., d_out].
const std::vector<double>& output_scales(const AutoencoderConfig& config) {
  return config.target_scales.empty() ? config.scales : config.target_scales;
}

/// x·s where the scale is not folded into the weights.
at::Tensor scaled(const AutoencoderConfig& config, const at::Tensor& x) {
  return config.normalization == Normalization::scale ? multiplied(x, config.scales) : x;
}

/// What normalising a token depends on, for formulas.h.
Autoencoder weightless(const AutoencoderConfig& config, const at::Tensor& x) {
  return {.config = {.d_in = x.size(-1), .normalization = config.normalization}};
}

void require_width(const at::Tensor& x, int64_t width, const char* what) {
  if (x.dim() < 1 || x.size(-1) != width)
    fail("{} of shape [{}], expected [.., {}]; is the autoencoder for another site or model?", what,
         fmt::join(x.sizes(), ", "), width);
}

}  // namespace

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
  const ArchitectureTraits& traits = traits_of(config.architecture);
  if (traits.has_k)
    require(config.k > 0 && config.k <= config.latents, "k", config.k,
            fmt::format("1 to the {} latents", config.latents));
  if (!config.prefixes.empty()) {
    require(traits.has_prefixes, "prefixes with architecture", traits.name,
            architecture_names(&ArchitectureTraits::has_prefixes));
    require(config.prefixes.front() > 0 && config.prefixes.back() == config.latents &&
                std::is_sorted(config.prefixes.begin(), config.prefixes.end(), std::less_equal<>{}),
            "prefixes", fmt::format("[{}]", fmt::join(config.prefixes, ", ")),
            fmt::format("rising numbers that end with the {} latents", config.latents));
  }
  if (config.normalization == Normalization::scale) {
    const auto require_scales = [&](const std::vector<double>& scales, int64_t width) {
      const auto count = static_cast<int64_t>(scales.size());
      require(count > 0 && width % count == 0, "scales", count,
              "one for each site, all of one width, or one for all");
      for (const double scale : scales)
        require(std::isfinite(scale) && scale > 0, "scale", scale, "a positive number");
    };
    require_scales(config.scales, config.d_in);
    require_scales(output_scales(config), config.d_out);
    require(!config.subtract_decoder_bias || output_scales(config) == config.scales,
            "scales of the target", fmt::format("[{}]", fmt::join(config.target_scales, ", ")),
            "those of x, since b_dec is subtracted from x");
  }
  if (config.subtract_decoder_bias)
    require(config.d_in == config.d_out, "d_out", config.d_out,
            "d_in, since b_dec is subtracted from x");
}

void validate(const Autoencoder& sae, std::string_view source) {
  const AutoencoderConfig& config = sae.config;
  validate(config, source);
  for_each_parameter(
      [&](const ParameterKind& kind, const at::Tensor& tensor) {
        const char* name = kind.name;
        if (!belongs_to(kind, config.architecture)) {
          if (tensor.defined())
            fail("{}: found a tensor {}, expected none for {}", source, name,
                 name_of(config.architecture));
          return;
        }
        if (kind.optional && !tensor.defined()) return;
        const std::vector<int64_t> shape = shape_of(kind, config);
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
      },
      sae.weights);
}

at::Tensor normalized(const AutoencoderConfig& config, const at::Tensor& x) {
  if (!is_per_token(config.normalization)) return scaled(config, x);
  return run_formula(weightless(config, x), "normalize", {x});
}

at::Tensor normalized_target(const AutoencoderConfig& config, const at::Tensor& target) {
  if (config.normalization != Normalization::scale) return normalized(config, target);
  return multiplied(target, output_scales(config));
}

at::Tensor spread(const AutoencoderConfig& config, const at::Tensor& x) {
  if (config.normalization == Normalization::none) return {};
  if (config.normalization == Normalization::scale) {
    const std::vector<double>& scales = output_scales(config);
    return scales.size() == 1 ? at::scalar_tensor(1 / scales.front(), x.options())
                              : divided(at::ones({config.d_out}, x.options()), scales);
  }
  return run_formula(weightless(config, x), "spread", {x});
}

at::Tensor thresholds(const Autoencoder& sae) {
  const ArchitectureTraits& traits = traits_of(sae.config.architecture);
  if (traits.has_thresholds) return sae.weights.threshold;
  if (traits.has_gate || traits.latents_compete) return {};
  const double common = traits.has_batch_threshold ? std::max(sae.topk_threshold, 0.0) : 0;
  return at::full({sae.config.latents}, common, sae.weights.encoder_bias.options());
}

at::Tensor encode(const Autoencoder& sae, const at::Tensor& x) {
  require_width(x, sae.config.d_in, "x");
  return run_formula(sae, "encode", {scaled(sae.config, x.to(at::kFloat))});
}

at::Tensor decode(const Autoencoder& sae, const at::Tensor& f, const at::Tensor& x) {
  require_width(f, sae.config.latents, "f");
  const AutoencoderConfig& config = sae.config;
  const bool per_token = is_per_token(config.normalization);
  if ((per_token || sae.weights.skip.defined()) && !x.defined())
    fail("decode without x; this autoencoder's {} needs it",
         per_token ? "normalisation" : "skip connection");
  if (x.defined()) require_width(x, config.d_in, "x");
  const c10::IValue input =
      x.defined() ? c10::IValue(scaled(config, x.to(at::kFloat))) : c10::IValue();
  const at::Tensor y = run_formula(sae, "decode", {f, input});  // x̂ [.., d_out], but for the scale
  return config.normalization == Normalization::scale ? divided(y, output_scales(config)) : y;
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
  moved.weights =
      transformed(sae.weights, [&](const at::Tensor& tensor) { return tensor.to(device); });
  return moved;
}

Autoencoder fold_scale(const Autoencoder& sae) {
  if (sae.config.normalization != Normalization::scale) return sae;
  const std::vector<double>&in = sae.config.scales, &out = output_scales(sae.config);
  Autoencoder folded = sae;
  folded.config.normalization = Normalization::none;
  folded.config.scales = {1};
  folded.config.target_scales.clear();
  folded.weights.encoder = multiplied(sae.weights.encoder, in);
  folded.weights.decoder = divided(sae.weights.decoder, out);
  folded.weights.decoder_bias = divided(sae.weights.decoder_bias, out);
  if (sae.weights.skip.defined())  // [d_out, d_in]
    folded.weights.skip = divided(multiplied(sae.weights.skip, in).t(), out).t().contiguous();
  return folded;
}

}  // namespace vyx::sae
