// Student's t distribution, for intervals of few values. Degrees of freedom need not be whole.
#pragma once

namespace vyx {

/// The probability of a value up to t; `degrees` > 0.
double student_t_cdf(double t, double degrees);
/// The value that a share p of the distribution lies below; 0 < p < 1, `degrees` > 0.
double student_t_quantile(double p, double degrees);

}  // namespace vyx
