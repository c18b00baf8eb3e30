// --vector, --sites, --positions and --allow-other-model: how drivers are told what to steer with.
#pragma once
#include <string>
#include <vector>

#include "apps/options/driver.h"
#include "steering/edits/steer.h"

namespace vyx::apps {

struct VectorOptions {
  std::vector<std::string> vectors;  // FILE or FILE=COEFFICIENT
  std::string sites, positions = "all";
  bool allow_other_model = false;

  void add_to(Driver& driver, bool with_positions = true);
  steering::SteerOptions steer_options() const;  // throws UsageError
  /// Reads the files; what they warn of goes to stderr.
  std::vector<steering::WeightedVector> read(const models::LanguageModel& model,
                                             const CommonOptions& common) const;
};

}  // namespace vyx::apps
