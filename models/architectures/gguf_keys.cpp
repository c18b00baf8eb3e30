#include "models/architectures/gguf_keys.h"

#include "core/base/error.h"
#include "core/base/text.h"

namespace vyx::models {

GgufKeys::GgufKeys(const Gguf& gguf, std::string_view prefix)
    : gguf_(gguf), prefix_(std::string(prefix) + ".") {}

int64_t GgufKeys::size(std::string_view key, uint64_t max) const {
  return static_cast<int64_t>(gguf_.unsigned_integer(full(key), 1, max));
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
      if (const std::string found = gguf_.string(key); found != absent->second)
        fail("{}: found {} = {}, expected {}; vyx does not compute this yet", source(), key,
             quote(found), absent->second);
      continue;
    }
    fail(
        "{}: found the hyperparameter {}, which vyx does not know; a model without it would be "
        "another one",
        source(), quote(key));
  }
}

}  // namespace vyx::models
