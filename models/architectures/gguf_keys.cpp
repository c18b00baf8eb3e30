#include "models/architectures/gguf_keys.h"

#include <algorithm>
#include <utility>

#include "core/base/error.h"
#include "core/base/text.h"

namespace vyx::models {

GgufKeys::GgufKeys(const Gguf& gguf, std::string_view prefix)
    : gguf_(gguf), prefix_(std::string(prefix) + ".") {}

int64_t GgufKeys::size(std::string_view key, uint64_t max) const {
  const GgufValue* value = gguf_.find(full(key));
  if (value == nullptr || !std::holds_alternative<GgufArray>(*value))
    return static_cast<int64_t>(gguf_.unsigned_integer(full(key), 1, max));
  const std::vector<int64_t> each = gguf_.integers(full(key));
  const uint64_t blocks = gguf_.unsigned_integer(full("block_count"), 1, max);
  if (each.size() != blocks)
    fail("{}: {} has {} numbers, expected one per block, which are {}", source(), full(key),
         each.size(), blocks);
  const auto other = std::find_if(each.begin(), each.end(),
                                  [&](int64_t number) { return number != each.front(); });
  if (other != each.end())
    fail("{}: {} has {} in block 0 and {} in block {}; vyx has no model with such blocks yet",
         source(), full(key), each.front(), *other, other - each.begin());
  if (each.front() < 1 || std::cmp_greater(each.front(), max))
    fail("{}: {} = {}, expected 1 to {}", source(), full(key), each.front(), max);
  return each.front();
}

int64_t GgufKeys::size_or(std::string_view key, int64_t otherwise, uint64_t max) const {
  return has(key) ? size(key, max) : otherwise;
}

double GgufKeys::positive(std::string_view key) const {
  const double value = gguf_.number(full(key));
  if (value <= 0) fail("{}: {} = {}, expected a positive number", source(), full(key), value);
  const auto narrow = static_cast<float>(value);
  return static_cast<double>(narrow) == value ? std::stod(fmt::format("{}", narrow)) : value;
}

double GgufKeys::positive_or(std::string_view key, double otherwise) const {
  return has(key) ? positive(key) : otherwise;
}

void GgufKeys::refuse_others(const Understood& understood) const {
  for (const auto& [key, value] : gguf_.metadata()) {
    if (!key.starts_with(prefix_)) continue;
    const std::string_view name = std::string_view(key).substr(prefix_.size());
    if (understood.keys.contains(name)) continue;
    if (const auto neutral = understood.neutral.find(name); neutral != understood.neutral.end()) {
      if (const double found = gguf_.number(key); found != neutral->second)
        fail("{}: found {} = {}, expected {}; vyx does not compute this yet", source(), key, found,
             neutral->second);
      continue;
    }
    if (const auto absent = understood.absent.find(name); absent != understood.absent.end()) {
      const auto& words = absent->second;
      if (const std::string found = gguf_.string(key);
          std::find(words.begin(), words.end(), found) == words.end())
        fail("{}: found {} = {}, expected {}; vyx does not compute this yet", source(), key,
             quote(found), words.front());
      continue;
    }
    fail(
        "{}: found the hyperparameter {}, which vyx does not know; a model without it would be "
        "another one",
        source(), quote(key));
  }
}

}  // namespace vyx::models
