// A control vector from a contrast set: activations of each prompt's last token, then one direction
// per site.
#pragma once
#include <functional>
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
  /// Gets a line when pairs are left out.
  std::function<void(const std::string&)> on_warning;
};

/// Throws Error for a degenerate site (naming it), and what read_contrast() throws; UsageError for
/// a method that does not exist.
ControlVector extract(models::LanguageModel& model, const ContrastSet& set,
                      const ExtractOptions& options = {});

/// The same from activations that are there already, of any module: pairs[i] are those at sites[i].
std::vector<SiteDirection> find_directions(std::span<const Site> sites,
                                           std::span<const ContrastActivations> pairs,
                                           const Method& method);

}  // namespace vyx::steering
