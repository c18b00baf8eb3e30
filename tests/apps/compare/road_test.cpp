#include "tests/torch_support.h"

#include "apps/compare/road.h"

#include <cmath>

#include "apps/compare/synthetic_subject.h"
#include "steering/directions/methods.h"

using namespace vyx::compare;

namespace {

RoadInput input_of(SyntheticSubject& subject) {
  return {.extraction = subject.contrast(Split::extraction),
          .selection = subject.contrast(Split::selection),
          .latents = latents_over(subject.true_autoencoder(), subject.background()),
          .slope = subject.preference_slopes(Split::selection).mean(0),
          .median_norm = 8};
}

/// Of which each latent's side effect is known, by what it writes along its feature: the more the
/// higher its number, and a dose of the concept costs most.
class Priced : public SyntheticSubject {
 public:
  std::vector<vyx::steering::NeutralEffect> neutral_sample(Edits edits) override {
    std::vector<vyx::steering::NeutralEffect> effects;
    for (const vyx::Edit* const edit : edits) {
      const at::Tensor along =
          features().mv(implicit_vector(*edit, background()).mean(0)).to(at::kDouble);
      const double dear = 100 * along[0].item<double>() * along[0].item<double>();
      const at::Tensor kl = at::full({8}, along.square().sum().item<double>() + dear, at::kDouble);
      effects.push_back({kl, kl, kl});
    }
    measured += edits.size();
    return effects;
  }
  size_t measured = 0;
};

}  // namespace

TEST_CASE("[compare.road] latents are chosen by what they do at equal side effect") {
  Priced subject;
  Measure measure(subject);
  RoadInput input = input_of(subject);
  // The preference rises along three latents; along the concept's most, which is the dearest.
  const at::Tensor slope = (subject.features()[0] + .4 * subject.features()[5] +
                            .2 * subject.features()[7] - subject.features()[3]);
  input.slope = slope.to(at::kDouble);
  const RoadOptions options{.k = 2, .candidates = 24};
  const std::vector<Method> methods = choose(measure, input, propose(input, options), options);
  REQUIRE(methods.size() == 2);  // no direction was given
  CHECK(methods[0].name == kSingleLatent);
  CHECK(methods[0].latents == std::vector<int64_t>{5});
  CHECK(methods[1].latents == std::vector<int64_t>{5, 7});
  CHECK(methods[0].known->dose == 1);
}

TEST_CASE("[compare.road] along a power law a dose takes two evaluations at most") {
  Priced subject;
  Measure measure(subject);
  RoadInput input = input_of(subject);
  input.latents.reset();
  input.directions = {direction_method("near", subject.features()[2], 1),
                      direction_method("far", subject.features()[4], .01)};
  const std::vector<double> doses = sample_doses(
      measure, input.directions, {.level = .3, .first_doses = {{Family::direction, .5}}});
  CHECK(doses[0] == doctest::Approx(std::sqrt(.3)));
  // A factor of 109: two steps of 8 at most.
  CHECK(doses[1] == doctest::Approx(.5 * 64));
  CHECK(subject.measured == 3);
}

TEST_CASE(
    "[compare.road] a method whose name was not asked for, or that is degenerate, is not found") {
  SyntheticSubject subject;
  RoadInput input = input_of(subject);
  CHECK(find_directions(input).size() == vyx::steering::methods().size());
  const std::vector<Method> two = find_directions(input, {"mean", "pca-diff"});
  REQUIRE(two.size() == 2);
  CHECK(two[0].finds_line);
  CHECK_FALSE(two[1].finds_line);
  input.extraction.negative = input.extraction.positive;
  std::vector<std::string> why;
  CHECK(find_directions(input, {}, [&](const std::string& text) { why.push_back(text); }).empty());
  CHECK(why.size() == vyx::steering::methods().size());
}
