#include "tests/torch_support.h"

#include "models/activations/row_activations.h"

#include <algorithm>
#include <array>

#include "core/hooks/activation_reader.h"
#include "tests/models/tiny_model.h"

namespace {

using namespace vyx::models;
using namespace vyx::test;
using vyx::Site;
using Rows = std::vector<std::vector<TokenId>>;

constexpr const char* kSite = "model.layers.1:output";
const std::vector<std::string> kTexts = {"some text to read", "a", "Q is loud<|im_end|>",
                                         "here and there"};

}  // namespace

TEST_CASE(
    "[models.row_activations] each token's activation is that of its row alone, in whole rows") {
  auto model = tiny_model();
  const Rows rows = rows_of(model, kTexts);
  for (const int64_t max_batch_tokens : {2048, 20, 1}) {
    CAPTURE(max_batch_tokens);
    std::vector<size_t> order;
    size_t tokens = 0;
    for_each_batch(
        model, rows, Site::parse(kSite),
        [&](const TokenActivations& batch) {
          for (size_t t = 0; t < batch.places.size(); ++t) {
            const auto& [row, position] = batch.places[t];
            if (order.empty() || order.back() != row) order.push_back(row);
            const auto alone = vyx::capture(model.module(), kSite,
                                            {make_batch(Rows{rows[row]}, Padding::right, 0).ids});
            CHECK(batch.x[static_cast<int64_t>(t)].allclose(alone.begin()->second[0][0][position],
                                                            1e-4, 1e-5));
            CHECK(!model.tokenizer().is_special(rows[row][static_cast<size_t>(position)]));
            ++tokens;
          }
        },
        {.max_batch_tokens = max_batch_tokens});
    CHECK(order.size() == rows.size());  // no row is cut
    size_t expected = 0;
    for (const auto& row : rows) expected += row.size();
    CHECK(tokens == expected - 1);  // without <|im_end|>
  }
}

TEST_CASE("[models.row_activations] special tokens and sinks are left out, and counted") {
  auto model = loud_model();
  const Rows rows = rows_of(model, kTexts);
  const double median = median_norm(model, rows, Site::parse(kSite));
  std::vector<TokenId> seen;
  const LeftOut left =
      for_each_batch(model, rows, Site::parse(kSite),
                     [&](const TokenActivations& batch) {
                       CHECK(batch.x.norm(2, {-1}).max().item<double>() <= kSinkThreshold * median);
                       for (const auto& [row, position] : batch.places)
                         seen.push_back(rows[row][static_cast<size_t>(position)]);
                     },
                     {.max_norm = kSinkThreshold * median});
  CHECK(left.special == 1);
  CHECK(left.sinks == 1);
  CHECK(std::find(seen.begin(), seen.end(), 3 + kLoud) == seen.end());
}

TEST_CASE("[models.row_activations] bad input is named") {
  auto model = tiny_model();
  const auto nothing = [](const TokenActivations&) {};
  const Rows rows = rows_of(model, kTexts), long_row = {std::vector<TokenId>(600, 5)},
             special = {{0}, {1}};
  CHECK(contains(error_of([&] { for_each_batch(model, long_row, Site::parse(kSite), nothing); }),
                 "row 1: found 600 tokens"));
  CHECK(contains(error_of([&] {
                   for_each_batch(model, rows, Site::parse("model.rotary_emb:output"), nothing);
                 }),
                 "model.rotary_emb:output"));
  CHECK(contains(error_of([&] { median_norm(model, special, Site::parse(kSite)); }),
                 "no token that is text"));
}
