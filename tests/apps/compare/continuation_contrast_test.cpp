#include "tests/torch_support.h"

#include "apps/compare/continuation_contrast.h"

#include <array>

#include "tests/steering/planted_model.h"

using namespace vyx::test;
using vyx::compare::continuation_contrast;
using vyx::steering::ContinuationPair;

namespace {

/// Mean over a continuation's tokens of the block's output, from the row alone [d] float64.
at::Tensor mean_of(vyx::models::LanguageModel& model, const std::string& prompt,
                   const std::string& text, bool chat) {
  std::vector<vyx::models::TokenId> tokens = model.encode_prompt(prompt, chat);
  const auto start = static_cast<int64_t>(tokens.size());
  const auto own = model.tokenizer().encode(text);
  tokens.insert(tokens.end(), own.begin(), own.end());
  at::Tensor seen;
  const std::array sites{model.block_output(1)};
  const auto handle = model.module().hook(sites, [&](const vyx::Site&, const c10::IValue& value) {
    seen = value.toTensor().clone();
    return std::nullopt;
  });
  const std::array rows{tokens};
  model.logits(vyx::models::make_batch(rows, vyx::models::Padding::right, 0));
  return seen[0].slice(0, start).to(at::kDouble).mean(0);
}

}  // namespace

TEST_CASE(
    "[compare.continuation_contrast] a row is the mean over a continuation's tokens, in the order "
    "of "
    "the pairs; prompts do not count") {
  auto model = planted_model();
  const std::vector<ContinuationPair> pairs = {{"How?", "GOOD DAY", "bad"},
                                               {"A LONG PROMPT OF CAPITALS", "Y", "no, never"},
                                               {"b", "YES", "no"}};
  for (const bool chat : {false, true}) {
    CAPTURE(chat);
    const auto found = continuation_contrast(model, pairs, model.block_output(1), chat);
    REQUIRE(found.positive.size(0) == 3);
    for (size_t i = 0; i < pairs.size(); ++i) {
      CAPTURE(i);
      const auto row = static_cast<int64_t>(i);
      const auto& [prompt, positive, negative, place] = pairs[i];
      CHECK(at::allclose(found.positive[row], mean_of(model, prompt, positive, chat), 1e-4, 1e-6));
      CHECK(at::allclose(found.negative[row], mean_of(model, prompt, negative, chat), 1e-4, 1e-6));
    }
  }
}

TEST_CASE("[compare.continuation_contrast] it is along what is planted") {
  auto model = planted_model();
  const std::vector<ContinuationPair> pairs = {
      {"a", "GOOD", "good"}, {"b", "DAY", "day"}, {"c", "SUN", "sun"}};
  const auto sides = continuation_contrast(model, pairs, model.block_output(1), false);
  const at::Tensor found = (sides.positive - sides.negative).mean(0);  // [d]
  const at::Tensor planted = planted_direction().to(at::kDouble);
  CHECK((found.dot(planted) / found.norm()).item<double>() > .9);
}
