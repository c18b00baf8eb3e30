#include "models/generation/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "core/base/error.h"

namespace vyx::models {
namespace {

using Candidate = std::pair<float, TokenId>;  // score, token

bool before(const Candidate& a, const Candidate& b) {
  return a.first > b.first || (a.first == b.first && a.second < b.second);
}

/// The index of the first maximum. Throws Error for NaN, and when no score is finite.
size_t best_of(std::span<const float> scores) {
  size_t best = 0;
  bool nan = false;
  for (size_t i = 0; i < scores.size(); ++i) {
    nan |= std::isnan(scores[i]);
    if (scores[i] > scores[best]) best = i;
  }
  if (nan || scores.empty() || !std::isfinite(scores[best]))
    fail("the model's logits hold {}, expected finite numbers", nan ? "NaN" : "no finite maximum");
  return best;
}

}  // namespace

void validate(const SamplingOptions& options) {
  const auto check = [](bool valid, const char* name, auto value, const char* expected) {
    if (!valid) throw UsageError(fmt::format("{} = {}; expected {}", name, value, expected));
  };
  check(options.temperature >= 0 && std::isfinite(options.temperature), "temperature",
        options.temperature, "a number that is not negative");
  check(options.top_k >= 0, "top_k", options.top_k, "a number of tokens, or 0 for all");
  check(options.top_p > 0 && options.top_p <= 1, "top_p", options.top_p,
        "more than 0 and at most 1");
  check(options.min_p >= 0 && options.min_p <= 1, "min_p", options.min_p, "0 to 1");
  check(options.repetition_penalty > 0 && std::isfinite(options.repetition_penalty),
        "repetition_penalty", options.repetition_penalty, "a positive number");
}

Sampler::Sampler(const SamplingOptions& options) : options_(options), random_(options.seed) {
  validate(options);
}

TokenId Sampler::sample(std::span<const float> logits, std::span<const TokenId> seen) {
  std::span<const float> scores = logits;
  if (options_.repetition_penalty != 1) scores = penalize(logits, seen);
  const size_t best = best_of(scores);
  if (options_.temperature == 0) return static_cast<TokenId>(best);

  // Probabilities relative to the best token's: exp((score − best) / temperature), 1 for the best.
  const double highest = scores[best];
  candidates_.clear();
  for (size_t i = 0; i < scores.size(); ++i) {
    const auto weight = static_cast<float>(std::exp((scores[i] - highest) / options_.temperature));
    candidates_.emplace_back(weight, static_cast<TokenId>(i));
  }
  keep_top_k();
  keep_top_p();
  if (options_.min_p > 0)
    std::erase_if(candidates_, [&](const Candidate& c) { return c.first < options_.min_p; });

  double total = 0;
  for (const auto& [weight, token] : candidates_) total += weight;
  // 53 random bits: a uniform number in [0, 1), the same on every platform.
  double left = static_cast<double>(random_() >> 11) * 0x1p-53 * total;
  TokenId chosen = candidates_.front().second;
  for (const auto& [weight, token] : candidates_) {
    if (weight > 0) chosen = token;
    left -= weight;
    if (left < 0) break;
  }
  return chosen;
}

std::span<const float> Sampler::penalize(std::span<const float> logits,
                                         std::span<const TokenId> seen) {
  penalized_.assign(logits.begin(), logits.end());
  const auto penalty = static_cast<float>(options_.repetition_penalty);
  for (const TokenId token : seen) {
    if (token < 0 || static_cast<size_t>(token) >= logits.size()) continue;
    // From the original logit: a token that was seen twice is penalised once.
    const float logit = logits[static_cast<size_t>(token)];
    penalized_[static_cast<size_t>(token)] = logit > 0 ? logit / penalty : logit * penalty;
  }
  return penalized_;
}

void Sampler::keep_top_k() {
  const auto k = static_cast<size_t>(options_.top_k);
  if (k == 0 || k >= candidates_.size()) return;
  std::nth_element(candidates_.begin(), candidates_.begin() + static_cast<int64_t>(k),
                   candidates_.end(), before);
  candidates_.resize(k);
  std::sort(candidates_.begin(), candidates_.end(),
            before);  // a fixed order: nth_element's depends on the library
}

void Sampler::keep_top_p() {
  if (options_.top_p >= 1) return;
  double total = 0;
  for (const auto& [weight, token] : candidates_) total += weight;
  // Usually a few tokens hold nearly everything: sort ever larger heads until one holds enough.
  double sum = 0;
  size_t sorted = 0;
  for (size_t head = 64; sorted < candidates_.size(); head *= 8) {
    head = std::min(head, candidates_.size());
    const auto begin = candidates_.begin() + static_cast<int64_t>(sorted);
    std::partial_sort(begin, candidates_.begin() + static_cast<int64_t>(head), candidates_.end(),
                      before);
    for (; sorted < head; ++sorted) {
      sum += candidates_[sorted].first;
      if (sum >= options_.top_p * total) {
        candidates_.resize(sorted + 1);
        return;
      }
    }
  }
}

}  // namespace vyx::models
