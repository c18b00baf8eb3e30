#include "sae/training/training_warnings.h"

#include <fmt/format.h>

#include <cmath>

#include "sae/metrics/degenerate.h"

namespace vyx::sae {
namespace {

double number_in(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number() ? found->get<double>() : std::nan("");
}

}  // namespace

std::vector<std::string> training_warnings(const Json& metrics, const Json& options) {
  if (!metrics.is_object() || !options.is_object()) return {};
  const double explained = number_in(metrics, "explained_variance"),
               error = number_in(metrics, "reconstruction"),
               penalty = number_in(metrics, "sparsity"), target = number_in(options, "l0-target");
  std::vector<std::string> lines =
      degenerate(Quality{.explained_variance = explained,
                         .l0 = number_in(metrics, "l0"),
                         .dead_fraction = number_in(metrics, "dead_fraction"),
                         .wanted_l0 = std::isfinite(target) ? target : 0,
                         .wanted_by = "--l0-target"});
  const double variance = error / (1 - explained);  // what no latent at all would cost
  if (!std::isfinite(target) && explained > 0 && penalty + error > variance)
    lines.push_back(fmt::format(
        "--sparsity {:g} has saturated: error and λ's term are {:.3g}, no latent at all would cost "
        "{:.3g}; more λ only adds to the error",
        number_in(options, "sparsity"), penalty + error, variance));
  return lines;
}

}  // namespace vyx::sae
