#include "sae/metrics/degenerate.h"

#include <fmt/format.h>

#include <cmath>

namespace vyx::sae {
namespace {

constexpr double kMostDead = 0.5;
constexpr double kTolerance = 0.25;  // of L0 on other rows than those of the training

/// What the training's record says; 0 where it does not.
double trained_l0_target(const Json& metadata) {
  const Json training = metadata.is_object() ? metadata.value("training", Json()) : Json();
  const Json target = training.is_object() ? training.value("l0-target", Json()) : Json();
  return target.is_number() ? target.get<double>() : 0;
}

}  // namespace

std::vector<std::string> degenerate(const Quality& quality) {
  std::vector<std::string> lines;
  const double explained = quality.explained_variance;
  if (!std::isfinite(explained))
    lines.emplace_back("the activations have no variance, so that there is nothing to explain");
  else if (explained < 0)
    lines.push_back(
        fmt::format("explained variance {:.3f} is below 0: the reconstruction is worse than the "
                    "mean",
                    explained));
  if (quality.l0 == 0) lines.emplace_back("no latent fires");
  if (quality.l0 > 0 && quality.dead_fraction > kMostDead)
    lines.push_back(fmt::format("{:.0f} % of the latents are dead", 100 * quality.dead_fraction));
  const double wanted = quality.wanted_l0;
  if (wanted > 0 && std::abs(quality.l0 / wanted - 1) > quality.tolerance)
    lines.push_back(fmt::format("L0 is {:.2f} where {} asked for {:g}: {:+.0f} %", quality.l0,
                                quality.wanted_by, wanted, 100 * (quality.l0 / wanted - 1)));
  return lines;
}

std::vector<std::string> degenerate(const Metrics& metrics, const AutoencoderConfig& config) {
  const bool enough =
      static_cast<double>(metrics.tokens) * metrics.l0 >= 10 * static_cast<double>(config.latents);
  Quality quality{.explained_variance = metrics.explained_variance,
                  .l0 = metrics.l0,
                  .dead_fraction = enough ? metrics.dead_fraction : 0,
                  .wanted_l0 = trained_l0_target(config.metadata),
                  .tolerance = kTolerance,
                  .wanted_by = "the training's l0-target"};
  if (traits_of(config.architecture).has_batch_threshold) {
    quality.wanted_l0 = static_cast<double>(config.k);
    quality.wanted_by = "k";
  }
  return degenerate(quality);
}

std::vector<std::string> degenerate(const Recovered& recovered) {
  std::vector<std::string> lines;
  if (recovered.replaced == 0) lines.emplace_back("no row of the text was replaced");
  if (recovered.reconstruction.cross_entropy > recovered.mean.cross_entropy)
    lines.push_back(fmt::format(
        "with the reconstruction the cross-entropy is {:.3f}, with the mean in its place {:.3f}: "
        "the autoencoder serves the model less than a constant",
        recovered.reconstruction.cross_entropy, recovered.mean.cross_entropy));
  return lines;
}

}  // namespace vyx::sae
