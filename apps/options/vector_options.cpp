#include "apps/options/vector_options.h"

#include "core/base/error.h"
#include "steering/files/control_vector_file.h"

namespace vyx::apps {

void VectorOptions::add_to(Driver& driver, bool with_positions) {
  auto add = driver.options();
  add("vector,v", po::value(&vectors)->value_name("FILE[=C]"),
      "a control vector and its coefficient (1 if not given); several are summed");
  add("sites", po::value(&sites)->value_name("GLOB"),
      "only these of the vectors' sites, e.g. 'model.layers.{8..21}'");
  add("allow-other-model", po::bool_switch(&allow_other_model),
      "take a vector that was made with another model");
  if (with_positions)
    add("positions", po::value(&positions)->default_value(positions)->value_name("WHICH"),
        "the tokens to edit: all, or generated");
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
    result.push_back({.vector = std::move(vector), .coefficient = coefficient, .sites = sites});
  }
  return result;
}

}  // namespace vyx::apps
