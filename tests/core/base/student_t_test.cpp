#include "core/base/student_t.h"

#include <cmath>

#include "tests/test_support.h"

using doctest::Approx;
using namespace vyx;

TEST_CASE("[core.base] Student's t distribution agrees with scipy.stats.t") {
  CHECK(student_t_cdf(0, 3) == Approx(.5));
  CHECK(student_t_cdf(1, 1) == Approx(.75));  // Cauchy's
  CHECK(student_t_cdf(2, 6.02268) == Approx(.9538766).epsilon(1e-6));
  CHECK(student_t_cdf(-3, 30) == Approx(.00269498).epsilon(1e-5));
  CHECK(student_t_quantile(.975, 1) == Approx(12.70620474).epsilon(1e-9));
  CHECK(student_t_quantile(.975, 6.02268) == Approx(2.44467997).epsilon(1e-6));
  CHECK(student_t_quantile(.995, 6.02268) == Approx(3.70170153).epsilon(1e-6));
  CHECK(student_t_quantile(.975, 1e7) == Approx(1.95996398).epsilon(1e-6));  // the normal's
}

TEST_CASE("[core.base] a quantile of Student's t is where the distribution reaches it") {
  for (const double degrees : {.8, 1., 2.5, 7., 60., 1e4})
    for (const double p : {1e-6, .025, .3, .5, .9, .999}) {
      CAPTURE(degrees);
      CAPTURE(p);
      CHECK(student_t_cdf(student_t_quantile(p, degrees), degrees) == Approx(p).epsilon(1e-10));
      CHECK(student_t_quantile(1 - p, degrees) ==
            Approx(-student_t_quantile(p, degrees)).epsilon(1e-9));
    }
  CHECK(std::isnan(student_t_quantile(1, 3)));
  CHECK(std::isnan(student_t_quantile(.5, 0)));
}
