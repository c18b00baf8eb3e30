#include "apps/compare/plan.h"

#include <algorithm>

#include "apps/compare/nulls.h"
#include "steering/directions/methods.h"

namespace vyx::compare {

Plan plan(const Subject& subject, const CompareOptions& options) {
  // A dose takes some 2 runs of the sample; from there each level takes 1 or 2 of the selection
  // half, and the headline is read between two more doses than the others.
  constexpr uint64_t kLatentMethods = 2, kOnSample = 2, kAround = 2, kResponses = 3;
  const auto all = steering::methods();
  const uint64_t directions = all.size(), foreign = subject.others().size();
  const auto sided = static_cast<uint64_t>(
      std::count_if(all.begin(), all.end(), [](const auto& each) { return !each.sign_is_voted; }));
  const uint64_t select = subject.preference_tokens(Split::selection),
                 test = subject.preference_tokens(Split::test),
                 dose = subject.neutral_tokens(Split::selection),
                 side = subject.neutral_tokens(Split::test),
                 sample = subject.neutral_sample_tokens();
  const uint64_t levels = options.levels.size(),
                 candidates = static_cast<uint64_t>(options.candidates);
  const uint64_t methods = directions + kLatentMethods + 1 + foreign;
  const uint64_t road = sample + test;  // of one method in a draw
  const uint64_t all_methods = candidates * sample + (directions + kLatentMethods) * road;
  Plan plan;
  plan.methods =
      candidates * sample + foreign * 2 * (2 * sample + select) +
      methods * (kOnSample * sample + (3 * levels / 2) * dose + (levels + kAround) * (side + test) +
                 kResponses * test + subject.ood_tokens() + subject.choice_tokens()) +
      subject.choice_tokens();
  const auto draws = static_cast<uint64_t>(options.nulls);
  if (draws == 0) return plan;
  plan.nulls = all_methods + draws * (all_methods + sided * road + road) +
               std::min(draws, foreign) * directions * road;
  return plan;
}

}  // namespace vyx::compare
