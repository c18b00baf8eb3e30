#include "apps/compare/foreign.h"

#include <fmt/format.h>

#include "core/base/error.h"

namespace vyx::compare {

std::vector<Method> foreign_methods(Measure& measure, double median_norm, double headline,
                                    const std::function<void(const std::string&)>& on_degenerate) {
  Subject& subject = measure.subject();
  const std::vector<std::string> others = subject.others();
  std::vector<Method> methods;
  for (size_t i = 0; i < others.size(); ++i) {
    const at::Tensor vector = subject.other_direction(i);  // [d]
    Method method;
    try {
      method = direction_method(fmt::format("mean of {}", others[i]), vector, median_norm);
    } catch (const Error& error) {
      on_degenerate(error.what());
      continue;
    }
    const double dose = measure.finder(method, first_dose(method.family)).find(headline).dose;
    if (measure.effect(method.edit(dose), Split::selection) < 0)
      method = direction_method(method.name, -vector, median_norm);
    method.role = Role::foreign_control;
    methods.push_back(std::move(method));
  }
  return methods;
}

}  // namespace vyx::compare
