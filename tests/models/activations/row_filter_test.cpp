#include "tests/torch_support.h"

#include "models/activations/row_filter.h"

#include <cmath>

#include "tests/models/tiny_model.h"

namespace {

using namespace vyx::models;
using namespace vyx::test;

bool is(const at::Tensor& mask, const std::vector<int64_t>& expected) {
  return mask.scalar_type() == at::kBool &&
         at::equal(mask.to(at::kLong), at::tensor(expected, at::kLong).view(mask.sizes()));
}

// Of the tiny model's tokens 0 to 2 are special.
const at::Tensor kTokens = at::tensor({1, 70, 2, 2, 71, 72, 0, 2}, at::kLong).view({2, 4});
const at::Tensor kReal = at::tensor({1, 1, 1, 0, 1, 1, 1, 0}, at::kLong).to(at::kBool).view({2, 4});

}  // namespace

TEST_CASE("[models.row_filter] special tokens are real ones; without any there is no mask") {
  const LanguageModel model = tiny_model();
  const RowFacts facts = facts_of(model.tokenizer(), kTokens, kReal);
  CHECK(is(facts.special, {1, 0, 1, 0, 0, 0, 1, 0}));
  CHECK(facts.real.is_same(kReal));
  CHECK(facts.tokens.is_same(kTokens));
  CHECK(is(facts_of(model.tokenizer(), kTokens).special, {1, 0, 1, 1, 0, 0, 1, 1}));
  CHECK_FALSE(facts_of(model.tokenizer(), kTokens + 70).special.defined());
  const at::Tensor no_token = at::full({2, 4}, 9999, at::kLong);  // as padding it is not looked up
  CHECK_NOTHROW(facts_of(model.tokenizer(), at::where(kReal, kTokens, no_token), kReal));
}

TEST_CASE(
    "[models.row_filter] rows of text are neither padding nor special, unless these are kept") {
  const LanguageModel model = tiny_model();
  const RowFacts facts = facts_of(model.tokenizer(), kTokens, kReal);
  CHECK(is(text_rows(facts), {0, 1, 0, 0, 1, 1, 0, 0}));
  CHECK(is(text_rows(facts, /*keep_special=*/true), {1, 1, 1, 0, 1, 1, 1, 0}));
  CHECK(is(text_rows({.real = {}, .special = facts.special, .tokens = {}}),
           {0, 1, 0, 1, 1, 1, 0, 1}));
  CHECK_FALSE(text_rows({}).defined());
}

TEST_CASE("[models.row_filter] sinks are rows of more than 10 times the median norm") {
  CHECK(sink_limit(0.5) == 5);
  CHECK(sink_limit(0.5, 3) == 1.5);
  CHECK(sink_limit(0.5, 0) == kAnyNorm);
  CHECK(sink_limit(0) == kAnyNorm);
  const at::Tensor x = at::tensor({3., 4., 30., 40., 0., 50.1, NAN, 1.}, at::kFloat).view({4, 2});
  CHECK(at::equal(row_norms(x).slice(0, 0, 2), at::tensor({5., 50.}, at::kFloat)));
  CHECK(is(are_within(row_norms(x), sink_limit(5)), {1, 1, 0, 0}));
  CHECK(is(are_within(row_norms(x), kAnyNorm), {1, 1, 1, 0}));  // NaN is within no limit
}

TEST_CASE("[models.row_filter] what is left out is counted once, and padding never") {
  const LanguageModel model = tiny_model();
  // The first special token is as long as a sink, and so is padding.
  const at::Tensor norms = at::tensor({99, 1, 1, 99, 1, 99, 1, 1}, at::kFloat).view({2, 4});
  const RegularRows rows = regular_rows(facts_of(model.tokenizer(), kTokens, kReal), norms, 10);
  CHECK(is(rows.keep, {0, 1, 0, 0, 1, 0, 0, 0}));
  CHECK(rows.left.special == 3);
  CHECK(rows.left.sinks == 1);
  const RegularRows any = regular_rows({}, norms, 10);
  CHECK(is(any.keep, {0, 1, 1, 0, 1, 0, 1, 1}));
  CHECK(any.left.special == 0);
  CHECK(any.left.sinks == 3);
  const LeftOut sum = rows.left + any.left;
  CHECK(sum.special == 3);
  CHECK(sum.sinks == 4);
}
