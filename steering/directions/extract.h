// A control vector from a contrast set: activations of each prompt's last token, then one direction
// per site.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "models/activations/last_token_activations.h"
#include "steering/directions/contrast_set.h"
#include "steering/directions/control_vector.h"

namespace vyx::steering {

struct ExtractOptions {
  std::string method = std::string(methods().front().name);
  std::string sites;  // pattern (core/hooks/site_pattern.h); "": every block's output but the first
                      // one's, which llama.cpp can't apply
  models::ActivationOptions activations;
};

/// Throws Error for a degenerate site (naming it), and for two sides whose tokens are equal;
/// UsageError for a method that does not exist.
ControlVector extract(models::LanguageModel& model, const ContrastSet& set,
                      const ExtractOptions& options = {});

/// The same from activations that are there already, of any module: positive[i] and negative[i] are
/// [n, d] at sites[i].
std::vector<SiteDirection> find_directions(std::span<const Site> sites,
                                           std::span<const at::Tensor> positive,
                                           std::span<const at::Tensor> negative,
                                           const Method& method);

}  // namespace vyx::steering
