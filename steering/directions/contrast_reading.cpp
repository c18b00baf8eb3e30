#include "steering/directions/contrast_reading.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "core/base/error.h"
#include "models/activations/row_filter.h"
#include "steering/directions/pair_groups.h"

namespace vyx::steering {
namespace {

using Prompts = std::vector<std::vector<models::TokenId>>;

constexpr size_t kNamed = 8;  // pairs that a message counts up

std::string place_of(const ContrastSet& set, size_t pair) {
  return pair < set.places.size() ? set.places[pair]
                                  : fmt::format("{}: pair {}", set.source, pair + 1);
}

/// Positive and negative prompts in turns, so that the two that share most are neighbours.
Prompts encode(const models::LanguageModel& model, const ContrastSet& set) {
  Prompts prompts;
  for (size_t i = 0; i < set.pairs.size(); ++i) {
    for (const std::string* side : {&set.pairs[i].positive, &set.pairs[i].negative}) {
      prompts.push_back(model.encode_prompt(*side));
      model.require_context(static_cast<int64_t>(prompts.back().size()), 0, place_of(set, i));
    }
    if (prompts[2 * i] == prompts[2 * i + 1]) {
      fail("{}: the two sides of pair {} are the same tokens; a pair's sides must differ",
           set.source, i + 1);
    }
  }
  return prompts;
}

/// Which pairs are left out, and why.
std::string described(const std::vector<size_t>& sinks, const Prompts& prompts) {
  std::vector<size_t> numbers;
  size_t one_token = 0;
  for (const size_t pair : sinks) {
    if (numbers.size() < kNamed) numbers.push_back(pair + 1);
    one_token += std::min(prompts[2 * pair].size(), prompts[2 * pair + 1].size()) == 1;
  }
  return fmt::format(
      "{} of {} pairs ({}{}), where the token that is read is an attention sink, {} times the "
      "median norm or more{}",
      sinks.size(), prompts.size() / 2, fmt::join(numbers, ", "),
      sinks.size() > kNamed ? ", …" : "", models::kSinkThreshold,
      one_token == 0 ? ""
                     : fmt::format("; {} of them have a side of one token, which is the first",
                                   one_token == sinks.size() ? "all" : std::to_string(one_token)));
}

}  // namespace

at::Tensor without_sinks(std::span<const ContrastActivations> sites) {
  at::Tensor keep;  // [pairs]
  for (const ContrastActivations& pairs : sites) {
    const double limit = models::sink_limit(median_norm(pairs));
    const auto within = [&](const at::Tensor& side) {
      return models::are_within(models::row_norms(side.cpu()), limit);
    };
    const at::Tensor own = within(pairs.positive) & within(pairs.negative);
    keep = keep.defined() ? keep & own : own;
  }
  return keep;
}

ContrastReading read_contrast(models::LanguageModel& model, const ContrastSet& set,
                              std::span<const Site> sites,
                              const models::ActivationOptions& options) {
  if (set.pairs.empty()) fail("{}: the contrast set is empty; give at least one pair", set.source);
  const Prompts prompts = encode(model, set);
  const PairGroups common = pair_groups(set);
  ContrastReading reading;
  for (const at::Tensor& each :  // [2 · pairs, d]
       models::last_token_activations(model, prompts, sites, options)) {
    const at::Tensor x = each.cpu();
    reading.sites.push_back({x.slice(0, 0, x.size(0), 2), x.slice(0, 1, x.size(0), 2),
                             at::tensor(common.groups, at::kLong),
                             at::tensor(common.personas, at::kLong)});
  }
  const at::Tensor keep = without_sinks(reading.sites).contiguous();  // [pairs]
  for (int64_t i = 0; i < keep.numel(); ++i)
    if (!keep.const_data_ptr<bool>()[i]) reading.sinks.push_back(static_cast<size_t>(i));
  if (reading.sinks.empty()) return reading;
  const std::string which = described(reading.sinks, prompts);
  if (reading.sinks.size() == set.pairs.size())
    fail("{}: found no pair that counts: {}; expected some text on both sides", set.source, which);
  reading.warning = fmt::format("{}: left out {}", set.source, which);
  for (ContrastActivations& pairs : reading.sites) pairs = rows_of(pairs, keep);
  return reading;
}

}  // namespace vyx::steering
