// One method measured in full: at each level of side effect and, at the headline level, in every
// other way. Doses are looked for on the selection half of the neutral text; on its test half the
// method is read at exactly the level.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "apps/compare/compare.h"
#include "apps/compare/equal_level.h"
#include "apps/compare/measure.h"

namespace vyx::compare {

class Trial {
 public:
  Trial(Measure& measure, const Latents& latents, const CompareOptions& options);

  /// `first`: the dose to begin with. `reference`: what tokens' implicit vectors are compared with
  /// [d].
  MethodResult run(const Method& method, double first, const at::Tensor& reference) const;
  /// How much further a method moves the items of the test than another one, at equal KL on the
  /// test half.
  Gain gain(const MethodResult& method, const MethodResult& over) const;

  Interval interval(const std::vector<double>& values, const std::vector<size_t>& clusters) const;

 private:
  struct Point {  // of the dose curve, on the test half
    steering::NeutralEffect neutral;
    std::vector<double> shifts;
  };
  using Curve = std::map<double, Point>;  // by dose

  Curve measure_curve(const Method& method, const std::vector<Dose>& found) const;
  void extend(const Method& method, const std::vector<double>& doses, Curve& curve) const;
  Level at_level(const Method& method, double level, const Dose& found, const Curve& curve) const;
  OodEffect on_another_template(const Edit& edit) const;
  ChoiceAccuracy on_choices(const Edit& edit) const;
  void respond(const Method& method, const Level& headline, MethodResult& result) const;
  void detect(const Method& method, MethodResult& result) const;
  void place(const Edit& edit, const Method& method, const at::Tensor& reference,
             MethodResult& result) const;

  Measure& measure_;
  Subject& subject_;
  const Latents& latents_;
  const CompareOptions& options_;
  Dictionary dictionary_;
  std::vector<size_t> windows_;  // of the test half's tokens
  size_t window_count_;
  WindowDraws window_draws_;
};

}  // namespace vyx::compare
