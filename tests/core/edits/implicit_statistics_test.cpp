#include "tests/core/hooks/script_fixtures.h"
// torch first
#include "core/edits/implicit_statistics.h"

using namespace vyx;
using vyx::test::contains;
using vyx::test::error_of;

TEST_CASE(
    "[core.implicit_statistics] a constant vector has no spread, opposite ones have nothing else") {
  const at::Tensor v = at::tensor({3.0, 4.0}).expand({5, 2});  // [tokens, d]
  const ImplicitStatistics constant = implicit_statistics(v);
  CHECK(constant.tokens == 5);
  CHECK(constant.spread == doctest::Approx(0).epsilon(1e-12));
  CHECK(constant.mean_norm == doctest::Approx(5));
  CHECK(constant.rms_norm == doctest::Approx(5));
  CHECK(constant.mean_cosine == doctest::Approx(1));
  CHECK(at::equal(constant.mean, at::tensor({3.0f, 4.0f})));

  const ImplicitStatistics opposite = implicit_statistics(at::cat({v, -v}));
  CHECK(opposite.spread == doctest::Approx(1));
  CHECK(opposite.mean_norm == doctest::Approx(0));
  CHECK(opposite.rms_norm == doctest::Approx(5));
}

TEST_CASE(
    "[core.implicit_statistics] tokens with nothing added count as such, and have no cosine") {
  const ImplicitStatistics half =
      implicit_statistics(at::tensor({2.0, 0.0, 0.0, 0.0}).view({2, 2}));
  CHECK(half.spread == doctest::Approx(0.5));  // E v = (1, 0), E‖v‖² = 2
  CHECK(at::equal(half.norms, at::tensor({2.0f, 0.0f})));
  CHECK(at::equal(half.cosines, at::tensor({1.0f, 0.0f})));
  CHECK(half.mean_cosine == doctest::Approx(1));
  CHECK(implicit_statistics(at::zeros({3, 2})).spread == 0);
}

TEST_CASE("[core.implicit_statistics] what is no set of vectors is refused") {
  CHECK(contains(error_of([] { implicit_statistics(at::zeros({0, 2})); }), "[0, 2]"));
  CHECK(contains(error_of([] { implicit_statistics(at::zeros({2})); }), "expected [tokens, d]"));
  CHECK(contains(error_of([] { implicit_statistics(at::full({2, 2}, NAN)); }), "NaN"));
}
