#include "tests/torch_support.h"

#include "apps/compare/foreign.h"

#include <cmath>

#include "apps/compare/synthetic_subject.h"

using namespace vyx::compare;

namespace {

/// A subject whose second concept cannot be told apart, and whose first points away.
class Odd : public SyntheticSubject {
 public:
  at::Tensor other_direction(size_t other) override {
    return other == 0 ? -SyntheticSubject::other_direction(0) : at::zeros({width()}, at::kFloat);
  }
};

}  // namespace

TEST_CASE(
    "[compare.foreign] the mean of a neighbour is along it and, since they fire together, along "
    "the concept; an unrelated one is not") {
  SyntheticSubject subject;
  const CompareOptions options;
  Measure measure(subject, options);
  const std::vector<Method> methods =
      foreign_methods(measure, 8, .3, [](const std::string&) { FAIL("nothing is degenerate"); });
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
  const CompareOptions options;
  Measure measure(subject, options);
  std::vector<std::string> left_out;
  const std::vector<Method> methods =
      foreign_methods(measure, 8, .3, [&](const std::string& why) { left_out.push_back(why); });
  REQUIRE(methods.size() == 1);
  CHECK(cosine(methods[0].direction, subject.features()[0]) > .3);
  CHECK(measure.effect(methods[0].edit(.3), Split::test) > 0);
  REQUIRE(left_out.size() == 1);
  CHECK(vyx::test::contains(left_out[0],
                            "mean of an independent feature: found a direction of norm 0"));
}
