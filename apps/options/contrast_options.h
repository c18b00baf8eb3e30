// --contrast and --template: how drivers are told what a concept is.
#pragma once
#include <string>

#include "apps/options/driver.h"
#include "models/language_model/language_model.h"
#include "steering/directions/contrast_set.h"

namespace vyx::apps {

struct ContrastOptions {
  std::string pairs, pattern;  // files: pairs of prompts; a template of them

  void add_to(Driver& driver);
  void validate() const;  // throws UsageError unless one of the two is given
  /// Reads the file; warns of bytes that the model's vocabulary cannot spell.
  steering::ContrastSet read(const models::LanguageModel& model, const CommonOptions& common) const;
};

}  // namespace vyx::apps
