#include "core/edits/attached_edit.h"
#include "tests/core/hooks/script_fixtures.h"
// torch first
#include <ATen/core/grad_mode.h>

#include <cstring>
#include <random>

#include "core/edits/bake.h"

namespace vyx {
namespace {

using test::Module;

constexpr int64_t kRows = 2, kTokens = 3;

/// Equal in every bit: −0 is not 0.
bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  if (a.dtype() != b.dtype() || a.sizes() != b.sizes()) return false;
  const at::Tensor left = a.contiguous(), right = b.contiguous();
  return std::memcmp(left.data_ptr(), right.data_ptr(), left.nbytes()) == 0;
}

/// Edits of every kind, drawn from a seed.
class RandomEdits {
 public:
  explicit RandomEdits(uint64_t seed) : random_(seed) {}

  Edit draw() {
    std::optional<Readout> readout;
    if (chance()) readout = test::readout(chance(), chance());
    std::vector<Term> terms;
    for (int k = 1 + below(4); k > 0; --k) terms.push_back(term(readout.has_value()));
    return Edit(std::move(terms), std::move(readout));
  }
  double number() { return std::normal_distribution<double>()(random_); }
  at::Tensor tensor(at::IntArrayRef shape) { return test::random(shape, random_()); }
  int below(int n) { return static_cast<int>(random_() % static_cast<uint64_t>(n)); }
  bool chance() { return below(2) == 1; }

 private:
  Term term(bool of_readout) {
    const at::Tensor vector = tensor({test::kWidth});
    if (!of_readout && below(3) == 0) {
      const std::vector<Term> named{Term::add(vector), Term::ablate(vector),
                                    Term::clamp(vector, number())};
      return named[static_cast<size_t>(below(3))];
    }
    Term term{.bias = number(), .gate = gate(), .writer = vector};
    if (of_readout) {
      term.column = below(2);
    } else {
      term.reader = tensor({test::kWidth});
    }
    if (!chance()) return term;
    term.condition = Condition{.bias = number()};
    if (of_readout) {
      term.condition->column = below(2);
    } else {
      term.condition->reader = tensor({test::kWidth});
    }
    return term;
  }
  /// With some parts, or none.
  Gate gate() {
    const auto part = [&] { return chance() ? number() : 0; };
    return {.constant = part(), .linear = part(), .rectified = part(), .step = part()};
  }

  std::mt19937_64 random_;
};

/// y of the edit at x, baked into a module that returns what it gets.
at::Tensor baked(const Edit& edit, const at::Tensor& x, double coefficient, bool adjustable) {
  Module identity("Identity");
  identity.define("def forward(self, x: Tensor) -> Tensor:\n    return x\n");
  const std::vector<size_t> numbers = adjustable ? std::vector<size_t>{0} : std::vector<size_t>{};
  return bake(identity, {{Site::parse(""), edit}}, coefficient, numbers).forward({x}).toTensor();
}

TEST_CASE("[core.edit] what C++ computes and what a baked module runs are the same bits") {
  const at::NoGradGuard no_grad;
  for (uint64_t seed = 0; seed < 150; ++seed) {
    CAPTURE(seed);
    RandomEdits random(seed);
    const Edit edit = random.draw();
    const std::array types{at::kFloat, at::kBFloat16, at::kHalf, at::kDouble};
    const at::Tensor x =
        random.tensor({kRows, kTokens, test::kWidth}).to(types[static_cast<size_t>(seed % 4)]);
    const double c = seed % 10 == 9 ? 0 : static_cast<float>(random.number());
    const at::Tensor y = edit.apply_scaled(x, c);
    CHECK(same_bits(baked(edit, x, c, false), y));
    CHECK(at::equal(baked(edit, x, c, true), y));  // parts that are 0 add a 0, which takes −0 away
    CHECK(same_bits(edit.apply(x, at::scalar_tensor(c)), y));
    const at::Tensor by_row = edit.apply(x, at::full({kRows}, c));
    if (c != 0) CHECK(same_bits(by_row, y));
    const auto terms = static_cast<int64_t>(edit.terms().size());
    if (edit.readout()) continue;  // its base belongs to no term
    const at::Tensor by_term = edit.apply(x, at::full({kRows, terms}, c));
    const double rounding = x.scalar_type() == at::kBFloat16 ? 0.05 : 0.01;
    CHECK(at::allclose(by_term, y, rounding, rounding));
  }
}

TEST_CASE("[core.edit] gradients through a baked edit are those of C++") {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    CAPTURE(seed);
    RandomEdits random(seed);
    const Edit edit = random.draw();
    const at::Tensor x = random.tensor({kRows, kTokens, test::kWidth});
    const auto gradient = [&](auto y_of) {
      const at::Tensor leaf = x.clone().requires_grad_(true);
      y_of(leaf).square().sum().backward();
      return leaf.grad();
    };
    CHECK(at::allclose(gradient([&](const at::Tensor& at) { return baked(edit, at, 2, false); }),
                       gradient([&](const at::Tensor& at) { return edit.apply_scaled(at, 2); }),
                       1e-5, 1e-5));
  }
}

}  // namespace
}  // namespace vyx
