#include "apps/options/vector_options.h"

#include "core/base/error.h"
#include "steering/files/control_vector_file.h"

namespace vyx::apps {

void VectorOptions::add_to(Driver& driver, bool with_positions) {
  auto& option = driver.options();
  option("vector,v", vectors, "FILE[=C]",
         "a control vector and its coefficient (1 if not given); several are summed");
  option("sites,s", sites, "PATTERN",
         "only these of the vectors' sites, such as 'model.layers.{8..21}'")
      .needs("vector");
  option("allow-other-model", allow_other_model, "take what was made with another model")
      .needs("vector", "sae");
  if (with_positions)
    option("positions", positions, "WHICH", "the tokens that are edited: all, or generated")
        .needs("vector", "sae");
}

steering::SteerOptions VectorOptions::steer_options() const {
  if (positions != "all" && positions != "generated")
    throw UsageError(fmt::format("--positions {}: expected all or generated", positions));
  return {.positions = positions == "all" ? Positions::all : Positions::generated,
          .allow_other_model = allow_other_model};
}

std::vector<steering::WeightedVector> VectorOptions::read(const models::LanguageModel& model,
                                                          const CommonOptions& common) const {
  std::vector<steering::WeightedVector> result;
  for (const std::string& text : vectors) {
    const auto [path, coefficient] = parse_named_number(text, 1.0);
    std::string warning;
    auto vector = steering::read_control_vector(path, model.config().block_path, &warning);
    if (!warning.empty()) common.warn(warning);
    for (const std::string& doubt : steering::doubts_of(vector))
      common.warn(fmt::format("{}: {}", path, doubt));
    result.push_back({.vector = std::move(vector), .coefficient = coefficient, .sites = sites});
  }
  return result;
}

}  // namespace vyx::apps
