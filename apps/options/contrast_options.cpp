#include "apps/options/contrast_options.h"

#include "core/base/error.h"
#include "steering/directions/pair_groups.h"

namespace vyx::apps {

void ContrastOptions::add_to(Driver& driver) {
  auto& option = driver.options();
  option("contrast", pairs, "FILE",
         "the concept as pairs of whole prompts, JSON Lines (apps/data/README.md)");
  option("template", pattern, "FILE",
         "the concept as a prompt, personas and sentence beginnings, JSON (apps/data/README.md)");
}

void ContrastOptions::validate() const {
  if (pairs.empty() == pattern.empty())
    throw UsageError("expected one of --contrast and --template");
}

steering::ContrastSet ContrastOptions::read(const models::LanguageModel& model,
                                            const CommonOptions& common) const {
  auto set = pairs.empty()
                 ? steering::read_contrast_template(pattern, model.config().tokens.chat_format)
                 : steering::read_contrast_set(pairs);
  int64_t lost = 0;
  for (const auto& [positive, negative] : set.pairs)
    for (const std::string* prompt : {&positive, &negative})
      lost += model.tokenizer().bytes_without_token(*prompt);
  if (lost > 0)
    common.warn(fmt::format("{}: {} bytes have no token in the model's vocabulary and are left out",
                            set.source, lost));
  for (const std::string& oddity : steering::oddities_of(set)) common.warn(oddity);
  return set;
}

}  // namespace vyx::apps
