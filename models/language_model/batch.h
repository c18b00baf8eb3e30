// Token sequences of different lengths as one padded batch.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "models/tokenizer/tokenizer.h"

namespace vyx::models {

enum class Padding { left, right };

struct Batch {
  at::Tensor ids;   // [batch, seq] int64
  at::Tensor mask;  // [batch, seq] bool, true = real; undefined when no row is padded
};

/// Throws Error when there is no row or a row is empty.
Batch make_batch(std::span<const std::vector<TokenId>> rows, Padding padding, TokenId pad_token);

/// Position of each row's last real token, [batch] int64.
at::Tensor last_positions(const Batch& batch);

/// A group of prompts that begin alike: the prefix is computed once, the rest a prompt.
struct PrefixGroup {
  // Tokens; shorter than every member, so that each keeps at least one token of its own.
  int64_t prefix_length = 0;
  std::vector<size_t> members;  // indices of the prompts, in order
};

/// Partitions prompts so that shared beginnings are computed once. Groups are worth their cost: a
/// shared prefix shorter than `min_prefix` tokens, or a group of one, has prefix_length 0 and all
/// such prompts are in one group.
std::vector<PrefixGroup> group_by_prefix(std::span<const std::vector<TokenId>> prompts,
                                         int64_t min_prefix = 8);

/// Cuts rows of `lengths` into batches of at most `max_tokens` padded tokens (or one row), so that
/// padding and the number of batches cost least together. Longest batch first; indices into
/// `lengths`.
std::vector<std::vector<size_t>> batches_by_length(std::span<const int64_t> lengths,
                                                   int64_t max_tokens);

}  // namespace vyx::models
