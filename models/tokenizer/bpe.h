// Byte-pair encoding of single words (Sennrich et al. 2016, https://arxiv.org/abs/1508.07909) over
// GPT-2's byte alphabet: the model part of tokenizer.json.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/base/json_guard.h"

namespace vyx::models {

class Bpe {
 public:
  /// `model` is tokenizer.json's "model". Throws Error naming `source` for what is damaged or not
  /// byte-level BPE.
  static Bpe from_json(const Json& model, std::string_view source);

  /// Memory that one word after another can reuse.
  class Scratch;

  /// Appends the tokens of `word`. Among the neighbours that merge, those of the lowest rank do so
  /// first, leftmost first: the order of `tokenizers`, in O(n log n). A byte without a token
  /// becomes unk_token, or is left out when there is none.
  void encode(std::string_view word, Scratch& scratch, std::vector<int64_t>& tokens) const;

  bool has_byte(unsigned char byte) const { return byte_tokens_[byte] != kNone; }
  /// The id of a token as it stands in the vocabulary ("Ġthe").
  std::optional<int32_t> find(const std::string& token) const;
  const std::unordered_map<std::string, int32_t>& vocabulary() const { return vocabulary_; }

 private:
  static constexpr int32_t kNone = -1;
  struct Merge {
    int32_t rank, merged;
  };

  const Merge* merge_of(int32_t left, int32_t right) const;
  void read_vocabulary(const Json& vocabulary, std::string_view source);
  void read_merges(const Json& merges, std::string_view source);
  void push_bytes(std::string_view word, Scratch& scratch) const;

  std::unordered_map<std::string, int32_t> vocabulary_;
  std::unordered_map<uint64_t, Merge> merges_;  // key: left id and right id, 32 bits each
  std::array<int32_t, 256> byte_tokens_{};      // kNone: the vocabulary has no token for this byte
  int32_t unknown_ = kNone;
  bool fuse_unknown_ = false;   // a run of unknown bytes becomes one unk_token
  bool ignore_merges_ = false;  // a word that is a token is that token, whatever the merges say
};

class Bpe::Scratch {
 private:
  friend class Bpe;
  struct Symbol {
    int32_t token;
    int32_t previous, next;  // kNone at the ends
    bool merged_away;
  };
  struct Candidate {
    int32_t rank, position, merged;
    // std::push_heap keeps the largest in front: the lowest rank, then the leftmost.
    bool operator<(const Candidate& other) const {
      return rank != other.rank ? rank > other.rank : position > other.position;
    }
  };
  std::vector<Symbol> symbols_;
  std::vector<Candidate> heap_;
};

}  // namespace vyx::models
