#include "models/language_model/batch.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "core/base/error.h"

namespace vyx::models {
namespace {

/// A forward's fixed cost is reading the weights: about what this many tokens cost on a CPU.
constexpr int64_t kForwardCost = 24;

}  // namespace

Batch make_batch(std::span<const std::vector<TokenId>> rows, Padding padding, TokenId pad_token) {
  if (rows.empty()) fail("a batch without rows; give at least one prompt");
  size_t longest = 0, shortest = std::numeric_limits<size_t>::max();
  for (size_t r = 0; r < rows.size(); ++r) {
    if (rows[r].empty()) fail("prompt {} has no token; give it some text", r + 1);
    longest = std::max(longest, rows[r].size());
    shortest = std::min(shortest, rows[r].size());
  }
  const auto batch = static_cast<int64_t>(rows.size()), seq = static_cast<int64_t>(longest);
  Batch result{.ids = at::full({batch, seq}, pad_token, at::kLong), .mask = {}};
  if (shortest < longest) result.mask = at::zeros({batch, seq}, at::kBool);
  for (size_t r = 0; r < rows.size(); ++r) {
    const size_t begin = r * longest + (padding == Padding::left ? longest - rows[r].size() : 0);
    std::copy(rows[r].begin(), rows[r].end(), result.ids.mutable_data_ptr<int64_t>() + begin);
    if (result.mask.defined())
      std::fill_n(result.mask.mutable_data_ptr<bool>() + begin, rows[r].size(), true);
  }
  return result;
}

at::Tensor last_positions(const Batch& batch) {
  const int64_t seq = batch.ids.size(1);
  if (!batch.mask.defined()) return at::full({batch.ids.size(0)}, seq - 1, batch.ids.options());
  // The first maximum of position × real is the last real token's.
  return (batch.mask * at::arange(1, seq + 1, batch.ids.options())).argmax(1);
}

std::vector<PrefixGroup> group_by_prefix(std::span<const std::vector<TokenId>> prompts,
                                         int64_t min_prefix) {
  const size_t count = prompts.size();
  std::vector<size_t> order(count);  // sorted, so that prompts that begin alike are neighbours
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return prompts[a] < prompts[b]; });
  const auto length = [&](size_t i) { return static_cast<int64_t>(prompts[order[i]].size()); };
  std::vector<int64_t> shared(count);  // tokens that i has in common with i − 1
  for (size_t i = 1; i < count; ++i) {
    const auto &x = prompts[order[i - 1]], &y = prompts[order[i]];
    shared[i] = std::mismatch(x.begin(), x.end(), y.begin(), y.end()).first - x.begin();
  }

  // cost[n]: tokens to compute for the first n, partitioned the cheapest way; their last group
  // begins at start[n].
  std::vector<int64_t> cost(count + 1), prefix(count + 1);
  std::vector<size_t> start(count + 1);
  for (size_t end = 1; end <= count; ++end) {
    cost[end] = cost[end - 1] + length(end - 1);
    start[end] = end - 1;
    int64_t common = length(end - 1) - 1, tokens = length(end - 1);
    for (size_t begin = end - 1; begin-- > 0;) {
      common = std::min({common, shared[begin + 1], length(begin) - 1});
      if (common < min_prefix) break;
      tokens += length(begin);
      const auto members = static_cast<int64_t>(end - begin);
      const int64_t total = cost[begin] + 2 * kForwardCost + tokens - (members - 1) * common;
      if (total < cost[end]) {
        cost[end] = total;
        start[end] = begin;
        prefix[end] = common;
      }
    }
  }

  std::vector<PrefixGroup> groups;
  PrefixGroup rest;
  for (size_t end = count; end > 0; end = start[end]) {
    std::vector<size_t> members(order.begin() + static_cast<int64_t>(start[end]),
                                order.begin() + static_cast<int64_t>(end));
    std::sort(members.begin(), members.end());
    if (prefix[end] > 0) {
      groups.push_back({prefix[end], std::move(members)});
    } else {
      rest.members.push_back(members.front());
    }
  }
  if (!rest.members.empty()) {
    std::sort(rest.members.begin(), rest.members.end());
    groups.push_back(std::move(rest));
  }
  return groups;
}

std::vector<std::vector<size_t>> batches_by_length(std::span<const int64_t> lengths,
                                                   int64_t max_tokens) {
  std::vector<size_t> order(lengths.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return lengths[a] < lengths[b]; });

  // cost[n]: of the n shortest, cut into batches the cheapest way; the last of them begins at
  // start[n].
  std::vector<int64_t> cost(order.size() + 1, std::numeric_limits<int64_t>::max());
  std::vector<size_t> start(order.size() + 1);
  cost[0] = 0;
  for (size_t end = 1; end <= order.size(); ++end) {
    const int64_t length = lengths[order[end - 1]];
    for (size_t begin = end; begin-- > 0;) {
      const int64_t tokens = static_cast<int64_t>(end - begin) * length;
      if (tokens > max_tokens && begin + 1 < end) break;  // a single row is always let through
      if (const int64_t total = cost[begin] + kForwardCost + tokens; total < cost[end]) {
        cost[end] = total;
        start[end] = begin;
      }
    }
  }
  std::vector<std::vector<size_t>> batches;
  for (size_t end = order.size(); end > 0; end = start[end])
    batches.emplace_back(order.begin() + static_cast<int64_t>(start[end]),
                         order.begin() + static_cast<int64_t>(end));
  return batches;
}

}  // namespace vyx::models
