#include "tests/torch_support.h"

#include "sae/latents/reading.h"

#include <limits>

#include "models/activations/row_activations.h"
#include "tests/models/tiny_model.h"
#include "tests/sae/random_autoencoder.h"

namespace {

using namespace vyx::sae;
using namespace vyx::test;
using vyx::Site;
using vyx::models::LanguageModel;
using vyx::models::TokenId;
using Rows = std::vector<std::vector<TokenId>>;

constexpr double kAnyNorm = std::numeric_limits<double>::infinity();

/// Latents of a row's tokens that are not special, that row run alone: [tokens, latents].
at::Tensor latents_alone(LanguageModel& model, const Autoencoder& sae, const Site& site,
                         const std::vector<TokenId>& row) {
  at::Tensor f;
  const Rows rows = {row};
  vyx::models::for_each_batch(model, rows, site,
                              [&](const auto& batch) { f = encode(sae, batch.x); });
  return f;
}

const std::vector<std::string> kPositive = {"I am glad", "so glad am I today", "g"},
                               kNegative = {"I am sad", "sad I went home", "b<|im_end|>"};

}  // namespace

TEST_CASE(
    "[sae.latents.reading] last tokens and means of all tokens are those of each prompt alone") {
  auto model = tiny_model();
  const Site site = model.block_output(1);
  const Autoencoder sae = random_autoencoder(Architecture::topk, 32, 24);
  const Rows positive = rows_of(model, kPositive), negative = rows_of(model, kNegative);
  for (const bool all_tokens : {false, true}) {
    CAPTURE(all_tokens);
    const auto by_hand = [&](const Rows& rows) {
      std::vector<at::Tensor> each;
      for (const auto& row : rows) {
        if (!all_tokens && model.tokenizer().is_special(row.back())) continue;
        const at::Tensor f = latents_alone(model, sae, site, row);
        each.push_back(all_tokens ? f.mean(0) : f[-1]);
      }
      return at::stack(each);
    };
    const Separation expected = separation(by_hand(positive), by_hand(negative));
    const Reading found = read_sides(model, sae, site, positive, negative,
                                     {.all_tokens = all_tokens, .max_norm = kAnyNorm});
    CHECK(found.separation.difference.allclose(expected.difference, 1e-3, 1e-4));
    CHECK(found.separation.auroc.allclose(expected.auroc));
    CHECK(found.positives == 3);
    CHECK(found.negatives == (all_tokens ? 3 : 2));
    CHECK(found.left.special == 1);
    CHECK(found.left.sinks == 0);
  }
}

TEST_CASE("[sae.latents.reading] sinks are left out, and a side of nothing else is refused") {
  auto model = tiny_model();
  const Site site = model.block_output(1);
  const Autoencoder sae = random_autoencoder(Architecture::relu, 32, 24);
  const Rows positive = rows_of(model, kPositive), negative = rows_of(model, kNegative),
             special = {{0}, {1, 2}};
  CHECK(contains(
      error_of([&] { read_sides(model, sae, site, positive, negative, {.max_norm = 1e-3}); }),
      "on the positive side"));
  for (const bool all_tokens : {false, true}) {
    CHECK(contains(error_of([&] {
                     read_sides(model, sae, site, positive, special,
                                {.all_tokens = all_tokens, .max_norm = kAnyNorm});
                   }),
                   "on the negative side"));
  }
}
