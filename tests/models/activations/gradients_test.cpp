#include "tests/torch_support.h"

#include "models/activations/gradients.h"

#include <array>

#include "core/edits/edit.h"
#include "tests/models/tiny_model.h"

namespace {

using namespace vyx::models;
using namespace vyx::test;
using vyx::Site;

constexpr const char* kEditedSite = "model.layers.1:output";

std::vector<Continuation> continuations_of(const LanguageModel& model) {
  std::vector<Continuation> rows;
  for (const auto& [prompt, text] : std::vector<std::pair<std::string, std::string>>{
           {"How was it?", " good"}, {"A", "b"}, {"Tell me", " of rain"}})
    rows.push_back({model.encode_prompt(prompt), model.tokenizer().encode(text)});
  return rows;
}

/// Mean log-probability per token of a row's text while `change` [seq, d] is added at the site.
double likelihood(LanguageModel& model, const Continuation& row, const at::Tensor& change) {
  const auto hook = model.module().hook(
      kEditedSite, [&](const Site&, const c10::IValue& value) -> std::optional<c10::IValue> {
        return value.toTensor() + change.unsqueeze(0);
      });
  std::vector<TokenId> tokens = row.prompt;
  tokens.insert(tokens.end(), row.text.begin(), row.text.end());
  const std::array rows{tokens};
  const at::Tensor each = model.token_log_probabilities(make_batch(rows, Padding::right, 0))[0];
  return each.slice(0, each.size(0) - static_cast<int64_t>(row.text.size()))
      .to(at::kDouble)
      .mean()
      .item<double>();
}

}  // namespace

TEST_CASE(
    "[models.gradients] gradients of each row are the central differences of its log-probability") {
  auto model = tiny_model();
  const std::vector<Continuation> rows = continuations_of(model);
  for (const int64_t max_batch_tokens : {512, 16}) {
    CAPTURE(max_batch_tokens);
    size_t seen = 0;
    for_each_gradient(
        model, rows, Site::parse(kEditedSite),
        [&](const SiteGradients& batch) {
          CHECK(!batch.gradient.requires_grad());
          size_t begin = 0;
          while (begin < batch.places.size()) {
            const size_t row = batch.places[begin].row;
            const auto length =
                static_cast<int64_t>(rows[row].prompt.size() + rows[row].text.size());
            const at::Tensor gradient =
                batch.gradient.narrow(0, static_cast<int64_t>(begin), length);  // [seq, d]
            at::manual_seed(static_cast<int64_t>(row));
            const at::Tensor direction = at::randn_like(gradient);
            constexpr double kStep = 1e-2;
            const double difference = (likelihood(model, rows[row], kStep * direction) -
                                       likelihood(model, rows[row], -kStep * direction)) /
                                      (2 * kStep);
            CHECK((gradient * direction).sum().item<double>() ==
                  doctest::Approx(difference).epsilon(1e-2));
            CHECK(gradient[-1].abs().max().item<double>() ==
                  0);  // nothing is predicted from the last token
            begin += static_cast<size_t>(length);
            ++seen;
          }
        },
        max_batch_tokens);
    CHECK(seen == rows.size());
  }
}

TEST_CASE("[models.gradients] bad input is named") {
  auto model = tiny_model();
  const auto nothing = [](const SiteGradients&) {};
  const auto error = [&](const std::vector<Continuation>& rows, const char* site) {
    return error_of([&] { for_each_gradient(model, rows, Site::parse(site), nothing); });
  };
  CHECK(contains(error({{{5}, {}}}, kEditedSite), "continuation 1: found an empty prompt or text"));
  CHECK(contains(error({{{5}, {6}}, {std::vector<TokenId>(512, 5), {6}}}, kEditedSite),
                 "continuation 2: found 513 tokens"));
  CHECK(contains(error(continuations_of(model), "lm_head:output"), "lm_head:output"));
}
