#include "tests/torch_support.h"

#include <array>
#include <cmath>

#include "core/hooks/activation.h"
#include "core/hooks/activation_reader.h"
#include "models/activations/last_token_activations.h"
#include "tests/models/tiny_model.h"

using namespace vyx;
using namespace vyx::models;
using test::contains;
using test::error_of;
using test::tiny_model;
using Rows = std::vector<std::vector<TokenId>>;

namespace {

/// 40 prompts with two shared beginnings, and a few of their own.
Rows prompts() {
  Rows rows;
  for (TokenId i = 0; i < 40; ++i) {
    auto& row = rows.emplace_back();
    for (TokenId k = 0; k < 20; ++k) row.push_back(10 + 40 * (i % 2) + k);
    for (TokenId k = 0; k <= i % 5; ++k) row.push_back(100 + (7 * i + 11 * k) % 150);
  }
  rows.push_back({5});
  rows.push_back({6, 7, 8, 9});
  return rows;
}

std::vector<Site> sites_of(LanguageModel& model) {
  return {model.block_output(0), Site::parse("model.layers.2:output"),
          Site::parse("model.layers.1.mlp:input")};
}

double worst_difference(const at::Tensor& a,
                        const at::Tensor& b) {  // [prompts, d], relative to each row's norm
  return ((a - b).norm(2, 1) / b.norm(2, 1)).max().item<double>();
}

}  // namespace

TEST_CASE(
    "[models.activations] the last token's activations are those of each prompt alone, in order") {
  LanguageModel model = tiny_model({.seed = 1});
  const Rows rows = prompts();
  const auto sites = sites_of(model);
  std::vector<at::Tensor> expected(sites.size());
  for (size_t i = 0; i < sites.size(); ++i) {
    std::vector<at::Tensor> alone;
    for (const auto& row : rows) {
      const auto captured =
          capture(model.module(), sites[i].name(), {make_batch(Rows{row}, Padding::right, 0).ids});
      alone.push_back(captured.begin()->second[0][0][-1]);
    }
    expected[i] = at::stack(alone);
  }
  for (const bool share : {true, false}) {
    for (const int64_t max_batch_tokens : {2048, 50, 1}) {
      CAPTURE(share);
      CAPTURE(max_batch_tokens);
      const auto found = last_token_activations(
          model, rows, sites, {.max_batch_tokens = max_batch_tokens, .share_prefixes = share});
      REQUIRE(found.size() == sites.size());
      for (size_t i = 0; i < sites.size(); ++i) {
        CHECK(found[i].sizes() == expected[i].sizes());
        CHECK(worst_difference(found[i], expected[i]) < 1e-5);
      }
    }
  }
}

TEST_CASE(
    "[models.activations] prefix tokens are computed once, and progress counts every prompt "
    "token") {
  LanguageModel model = tiny_model();
  int64_t tokens = 0;
  const HookHandle handle =
      model.module().hook("model.embed_tokens:input", [&](const Site&, const c10::IValue& value) {
        tokens += activation_of(value)->numel();
        return std::nullopt;
      });
  const Rows rows = prompts();
  uint64_t done = 0, total = 0;
  for (const auto& row : rows) total += row.size();
  const auto sites = sites_of(model);
  last_token_activations(model, rows, sites, {.on_tokens = [&](uint64_t more) { done += more; }});
  CHECK(done == total);
  CHECK(tokens < 250);  // 2 × 20 shared and 125 of their own, little of it padding
  tokens = 0;
  last_token_activations(model, rows, sites, {.share_prefixes = false});
  CHECK(tokens >= static_cast<int64_t>(total));
}

TEST_CASE("[models.activations] steering shows in what is harvested") {
  LanguageModel model = tiny_model();
  const auto sites = sites_of(model);
  const auto before = last_token_activations(model, prompts(), sites);
  const HookHandle handle = model.module().hook(
      "model.layers.1", [](const Site&, const c10::IValue& value) -> std::optional<c10::IValue> {
        return with_activation(value, *activation_of(value) + 1);
      });
  const auto after = last_token_activations(model, prompts(), sites);
  CHECK(worst_difference(after[0], before[0]) < 1e-5);  // block 0 comes before it
  CHECK(worst_difference(after[1], before[1]) > 0.01);
}

TEST_CASE(
    "[models.activations] empty prompts, unknown sites and sites without tokens are refused") {
  LanguageModel model = tiny_model();
  const std::array site{model.block_output(0)};
  CHECK(contains(error_of([&] {
                   last_token_activations(model, Rows{{1}, {}}, site);
                 }),
                 "prompt 2 has no token"));
  CHECK(contains(error_of([&] { last_token_activations(model, Rows{}, site); }), "no prompts"));
  const std::array unknown{Site::parse("model.layers.9")};
  CHECK(contains(error_of([&] { last_token_activations(model, Rows{{1}}, unknown); }),
                 "model.layers.9:output"));
  const std::array head{Site::parse("lm_head")};
  CHECK(contains(error_of([&] { last_token_activations(model, Rows{{1}}, head); }),
                 "lm_head:output"));
  const std::array rotary{Site::parse("model.rotary_emb")};
  CHECK(contains(error_of([&] { last_token_activations(model, Rows{{1}}, rotary); }),
                 "[batch, seq, d]"));
}

TEST_CASE("[models.activations] NaN names the site and the prompt") {
  LanguageModel model = tiny_model();
  const HookHandle handle = model.module().hook(
      "model.layers.1", [](const Site&, const c10::IValue& value) -> std::optional<c10::IValue> {
        at::Tensor y = activation_of(value)->clone();
        y.masked_fill_((y.sum(-1, true) == y.sum(-1, true).max()), NAN);
        return with_activation(value, y);
      });
  const std::array site{Site::parse("model.layers.2")};
  const std::string message = error_of([&] { last_token_activations(model, Rows{{1}}, site); });
  CHECK(contains(message, "model.layers.2:output"));
  CHECK(contains(message, "prompt 1"));
}
