#include "tests/torch_support.h"

#include "apps/compare/foreign.h"

#include <cmath>

#include "apps/compare/geometry.h"
#include "apps/compare/statistics.h"
#include "apps/compare/synthetic_subject.h"

using namespace vyx::compare;

namespace {

/// A subject whose second concept cannot be told apart, and whose first points away.
class Odd : public SyntheticSubject {
 public:
  ContrastActivations other_contrast(size_t other) override {
    const ContrastActivations own = SyntheticSubject::other_contrast(0);
    const at::Tensor &positive = own.positive, &negative = own.negative;
    return other == 0 ? ContrastActivations{negative, positive}
                      : ContrastActivations{positive, positive};
  }
};

/// A subject on which a step against feature 1 costs 16 times what one along it does.
class Lopsided : public SyntheticSubject {
 public:
  std::vector<vyx::steering::NeutralEffect> neutral_sample(Edits edits) override {
    std::vector<vyx::steering::NeutralEffect> effects;
    for (const vyx::Edit* const edit : edits) {
      const double step = edit->terms()
                              .front()
                              .writer.to(at::kDouble)
                              .dot(features()[1].to(at::kDouble))
                              .item<double>();
      const at::Tensor kl = at::full({8}, step * step * (step > 0 ? 1 : 16), at::kDouble);
      effects.push_back({kl, kl, kl});
    }
    return effects;
  }
};

}  // namespace

TEST_CASE(
    "[compare.foreign] the mean of a neighbour is along it and, since they fire together, along "
    "the concept; an unrelated one is not") {
  SyntheticSubject subject;
  Measure measure(subject);
  const std::vector<Method> methods =
      foreign_methods(measure, 8, {}, [](const std::string&) { FAIL("nothing is degenerate"); });
  REQUIRE(methods.size() == 2);
  CHECK(methods[0].name == "mean of the neighbour");
  CHECK(methods[0].role == Role::foreign_control);
  const auto along = [&](size_t method, int64_t feature) {
    return cosine(methods[method].direction, subject.features()[feature]);
  };
  CHECK(along(0, 1) > .7);
  CHECK(along(0, 0) > .3);
  CHECK(along(1, 2) > .7);
  CHECK(std::fabs(along(1, 0)) < .2);
}

TEST_CASE(
    "[compare.foreign] the sign is the one that moves the concept up, and a direction that is none "
    "is left out by name") {
  Odd subject;
  Measure measure(subject);
  std::vector<std::string> left_out;
  const std::vector<Method> methods =
      foreign_methods(measure, 8, {}, [&](const std::string& why) { left_out.push_back(why); });
  REQUIRE(methods.size() == 1);
  CHECK(cosine(methods[0].direction, subject.features()[0]) > .3);
  CHECK(mean(measure.shifts(methods[0].edit(.3), Split::test)) > 0);
  REQUIRE(left_out.size() == 1);
  CHECK(vyx::test::contains(left_out[0],
                            "mean of an independent feature: found a direction of norm 0"));
}

TEST_CASE("[compare.foreign] a dose is looked for with the sign that is applied") {
  Lopsided subject;
  Measure measure(subject);
  const at::Tensor axis = subject.features()[1];
  const std::vector<Method> signs = {direction_method("up", axis, 1),
                                     direction_method("down", -axis, 1)};
  const std::vector<double> doses = sample_doses(measure, signs, {.level = .3});
  CHECK(doses[0] == doctest::Approx(std::sqrt(.3)));
  CHECK(doses[1] == doctest::Approx(std::sqrt(.3) / 4));
}
