// A contrast set's activations: those of its prompts' last tokens, pair by pair, without the pairs
// that say nothing of the concept.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "models/activations/last_token_activations.h"
#include "steering/directions/contrast_set.h"
#include "steering/directions/differences.h"

namespace vyx::steering {

/// Which pairs count, [pairs] bool: those with no attention sink on either side, at any site, as
/// models/activations/row_filter.h says what one is. `sites` are the activations of the same pairs
/// at several sites.
at::Tensor without_sinks(std::span<const ContrastActivations> sites);

struct ContrastReading {
  std::vector<ContrastActivations> sites;  // one per site
  std::vector<size_t> sinks;               // places of the pairs that were left out
  std::string warning;                     // which these are, and why; "": none
};

/// Throws Error for two sides whose tokens are equal, and where no pair is left.
ContrastReading read_contrast(models::LanguageModel& model, const ContrastSet& set,
                              std::span<const Site> sites,
                              const models::ActivationOptions& options = {});

}  // namespace vyx::steering
