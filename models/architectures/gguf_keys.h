// The hyperparameters of a GGUF model: the keys behind its family's prefix.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/formats/gguf.h"

namespace vyx::models {

class GgufKeys {
 public:
  /// `prefix` is the file's general.architecture: "llama" for "llama.block_count". `gguf` must
  /// outlive it.
  GgufKeys(const Gguf& gguf, std::string_view prefix);

  const std::string& source() const { return gguf_.source(); }
  const Gguf& gguf() const { return gguf_; }
  std::string full(std::string_view key) const { return prefix_ + std::string(key); }
  bool has(std::string_view key) const { return gguf_.find(full(key)) != nullptr; }

  /// From 1 to max; an array that has one number for every block is that number. These throw Error
  /// naming the full key when it is missing, of another type or out of range.
  int64_t size(std::string_view key, uint64_t max = kMaxWidth) const;
  int64_t size_or(std::string_view key, int64_t otherwise, uint64_t max = kMaxWidth) const;
  /// A positive number, as the decimal number that it was written from: 1e-5 in a float32.
  double positive(std::string_view key) const;
  double positive_or(std::string_view key, double otherwise) const;

  /// What a file may say although the family's spec has no word for it.
  struct Understood {
    std::set<std::string_view> keys;             // that are read, or say nothing
    std::map<std::string_view, double> neutral;  // with which they do nothing
    // The words for "none", the first of them in messages.
    std::map<std::string_view, std::vector<std::string_view>> absent;
  };
  /// Throws Error naming the key for one that is not understood, or is not neutral: a model in
  /// which a key is ignored is wrong in silence.
  void refuse_others(const Understood& understood) const;

 private:
  static constexpr uint64_t kMaxWidth = 1 << 20;

  const Gguf& gguf_;
  std::string prefix_;  // "llama."
};

}  // namespace vyx::models
