// The dose that costs a given side effect. Methods are compared at equal side effect and never at
// equal coefficient, since a coefficient means something else for each method (iso-KL dosing,
// https://github.com/wassname/steering-lite).
#pragma once
#include <functional>
#include <vector>

namespace vyx::compare {

struct DosePoint {
  double dose = 0, kl = 0;
};

struct Dose {
  double dose = 0, kl = 0;  // what was measured there
  bool reached = true;      // false: no dose within the limits has the KL that was asked for; the
                            // nearest one found is given
};

struct DosingOptions {
  double first = 1;                       // tried first, unless something was measured before
  double smallest = 1e-3, largest = 1e3;  // doses outside are not tried
  double tolerance = 0.03;                // of the KL, relative
  int max_evaluations = 10;               // per level
};

/// Finds doses by regula falsi in log-log coordinates: KL ≈ ½c²vᵀFv for small c, so that it is
/// nearly a line of slope 2 there. KL is not assumed to rise with the dose: the lowest
/// crossing from below that is found is taken. Measurements are kept for further levels.
class DoseFinder {
 public:
  explicit DoseFinder(std::function<double(double dose)> kl, DosingOptions options = {});

  Dose find(double kl);
  const std::vector<DosePoint>& curve() const { return curve_; }  // all that was measured, by dose

 private:
  double evaluate(double dose);
  double next_dose(double kl) const;  // 0: there is none to try

  std::function<double(double)> kl_;
  DosingOptions options_;
  std::vector<DosePoint> curve_;
};

}  // namespace vyx::compare
