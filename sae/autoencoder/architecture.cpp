#include "sae/autoencoder/architecture.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "core/base/error.h"

namespace vyx::sae {
namespace {

constexpr std::array kArchitectures{ArchitectureTraits{.architecture = Architecture::relu,
                                                       .name = "relu",
                                                       .saelens_name = "standard",
                                                       .has_penalty = true},
                                    ArchitectureTraits{.architecture = Architecture::gated,
                                                       .name = "gated",
                                                       .saelens_name = "gated",
                                                       .has_gate = true,
                                                       .has_penalty = true},
                                    ArchitectureTraits{.architecture = Architecture::topk,
                                                       .name = "topk",
                                                       .saelens_name = "topk",
                                                       .has_k = true,
                                                       .latents_compete = true},
                                    ArchitectureTraits{.architecture = Architecture::batch_topk,
                                                       .name = "batch-topk",
                                                       .saelens_name = "batchtopk",
                                                       .has_batch_threshold = true,
                                                       .has_k = true,
                                                       .has_prefixes = true},
                                    ArchitectureTraits{.architecture = Architecture::jump_relu,
                                                       .name = "jump-relu",
                                                       .saelens_name = "jumprelu",
                                                       .has_thresholds = true,
                                                       .has_penalty = true}};

constexpr std::array<std::pair<Normalization, std::string_view>, 4> kNormalizations{
    {{Normalization::none, "none"},
     {Normalization::scale, "scale"},
     {Normalization::token_norm, "token-norm"},
     {Normalization::layer_norm, "layer-norm"}}};

[[noreturn]] void refuse(std::string_view what, std::string_view name, std::string_view expected) {
  throw UsageError(fmt::format("found {} '{}', expected one of {}", what, name, expected));
}

}  // namespace

std::span<const ArchitectureTraits> architectures() {
  return kArchitectures;
}

const ArchitectureTraits& traits_of(Architecture architecture) {
  return *std::find_if(
      kArchitectures.begin(), kArchitectures.end(),
      [&](const ArchitectureTraits& each) { return each.architecture == architecture; });
}

std::string_view name_of(Architecture architecture) {
  return traits_of(architecture).name;
}

Architecture architecture_from_name(std::string_view name) {
  for (const ArchitectureTraits& each : kArchitectures)
    if (each.name == name) return each.architecture;
  refuse("architecture", name, architecture_names());
}

std::string architecture_names(bool ArchitectureTraits::*trait) {
  std::vector<std::string_view> names;
  for (const ArchitectureTraits& each : kArchitectures)
    if (!trait || each.*trait) names.push_back(each.name);
  return fmt::format("{}", fmt::join(names, ", "));
}

std::string_view name_of(Normalization normalization) {
  return std::find_if(kNormalizations.begin(), kNormalizations.end(),
                      [&](const auto& each) { return each.first == normalization; })
      ->second;
}

Normalization normalization_from_name(std::string_view name) {
  std::vector<std::string_view> names;
  for (const auto& [normalization, known] : kNormalizations) {
    if (known == name) return normalization;
    names.push_back(known);
  }
  refuse("normalization", name, fmt::format("{}", fmt::join(names, ", ")));
}

bool is_per_token(Normalization normalization) {
  return normalization == Normalization::token_norm || normalization == Normalization::layer_norm;
}

}  // namespace vyx::sae
