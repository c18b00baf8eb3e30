#include "apps/compare/foreign.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <fmt/format.h>

#include "apps/compare/statistics.h"
#include "core/base/error.h"

namespace vyx::compare {
namespace {

/// The one of both that moves the concept further on the selection split.
Method better_of(Measure& measure, const std::vector<Method>& signs, const RoadOptions& options) {
  const std::vector<double> doses = sample_doses(measure, signs, options);
  std::vector<Edit> edits;
  for (size_t i = 0; i < signs.size(); ++i) edits.push_back(signs[i].edit(doses[i]));
  const std::vector<std::vector<double>> shifts = measure.shifts(edits, Split::selection);
  return mean(shifts[1]) > mean(shifts[0]) ? signs[1] : signs[0];
}

}  // namespace

std::vector<Method> foreign_methods(Measure& measure, double median_norm,
                                    const RoadOptions& options,
                                    const std::function<void(const std::string&)>& on_degenerate) {
  Subject& subject = measure.subject();
  const std::vector<std::string> others = subject.others();
  std::vector<Method> methods;
  for (size_t i = 0; i < others.size(); ++i) {
    const ContrastActivations pairs = subject.other_contrast(i);
    const at::Tensor vector = pairs.positive.mean(0) - pairs.negative.mean(0);  // [d]
    const std::string name = fmt::format("mean of {}", others[i]);
    std::vector<Method> signs;
    try {
      signs = {direction_method(name, vector, median_norm),
               direction_method(name, -vector, median_norm)};
    } catch (const Error& error) {
      on_degenerate(error.what());
      continue;
    }
    methods.push_back(better_of(measure, signs, options));
    methods.back().role = Role::foreign_control;
  }
  return methods;
}

}  // namespace vyx::compare
