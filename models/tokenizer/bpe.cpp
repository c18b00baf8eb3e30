#include "models/tokenizer/bpe.h"

#include <algorithm>
#include <limits>

#include "core/base/error.h"
#include "core/base/text.h"
#include "models/tokenizer/byte_level.h"

namespace vyx::models {
namespace {

constexpr size_t kMaxVocabulary = 1u << 21;

constexpr uint64_t pair_key(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

bool flag(const Json& model, const char* key, std::string_view source) {
  return model.contains(key) && json_bool(model, key, source);
}

/// null, absent or "": all three mean none in the files of different years.
std::string optional_text(const Json& model, const char* key, std::string_view source) {
  return model.contains(key) && !model[key].is_null() ? json_string(model, key, source)
                                                      : std::string();
}

void refuse_other_kinds(const Json& model, std::string_view source) {
  if (!model.is_object()) fail("{}: model is {}, expected an object", source, model.type_name());
  const std::string type = model.contains("type") ? json_string(model, "type", source) : "BPE";
  if (type != "BPE") fail("{}: model type is {}; vyx reads byte-level BPE", source, quote(type));
  if (model.contains("dropout") && !model["dropout"].is_null() && model["dropout"] != 0.0) {
    fail("{}: model has dropout {}; encoding would be random; set it to null", source,
         quote(model["dropout"].dump()));
  }
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (const std::string text = optional_text(model, key, source); !text.empty()) {
      fail("{}: model has {} {}, which byte-level BPE does not use", source, key, quote(text));
    }
  }
  if (flag(model, "byte_fallback", source)) {
    fail("{}: model has byte_fallback, as SentencePiece's have; vyx reads byte-level BPE", source);
  }
}

struct MergeText {
  std::string left, right;
};

/// A merge is "a b" or, in newer files, ["a", "b"].
MergeText merge_text(const Json& merge, size_t index, std::string_view source) {
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
    return {merge[0].get<std::string>(), merge[1].get<std::string>()};
  }
  if (merge.is_string()) {
    const auto& text = merge.get_ref<const std::string&>();
    const size_t space = text.find(' ');
    if (space != std::string::npos && text.find(' ', space + 1) == std::string::npos) {
      return {text.substr(0, space), text.substr(space + 1)};
    }
  }
  fail("{}: merge {} is {}, expected \"left right\" or [\"left\", \"right\"]", source, index,
       quote(merge.dump()));
}

}  // namespace

Bpe Bpe::from_json(const Json& model, std::string_view source) {
  refuse_other_kinds(model, source);
  Bpe bpe;
  if (!model.contains("vocab")) fail("{}: model has no vocab", source);
  if (!model.contains("merges")) fail("{}: model has no merges", source);
  bpe.read_vocabulary(model["vocab"], source);
  bpe.read_merges(model["merges"], source);
  bpe.fuse_unknown_ = flag(model, "fuse_unk", source);
  bpe.ignore_merges_ = flag(model, "ignore_merges", source);
  if (const std::string unknown = optional_text(model, "unk_token", source); !unknown.empty()) {
    const auto id = bpe.find(unknown);
    if (!id) fail("{}: unk_token {} is not in the vocabulary", source, quote(unknown));
    bpe.unknown_ = *id;
  }
  return bpe;
}

void Bpe::read_vocabulary(const Json& vocabulary, std::string_view source) {
  if (!vocabulary.is_object())
    fail("{}: vocab is {}, expected an object", source, vocabulary.type_name());
  if (vocabulary.size() > kMaxVocabulary) {
    fail("{}: the vocabulary has {} tokens, expected at most {}", source, vocabulary.size(),
         kMaxVocabulary);
  }
  vocabulary_.reserve(vocabulary.size());
  for (const auto& [token, value] : vocabulary.items()) {
    if (token.find('\0') != std::string::npos)
      fail("{}: token {} contains a NUL character", source, quote(token));
    const int64_t id = value.is_number_integer() ? value.get<int64_t>() : -1;
    if (id < 0 || id > std::numeric_limits<int32_t>::max()) {
      fail("{}: token {} has the id {}, expected an integer from 0 to {}", source, quote(token),
           quote(value.dump()), std::numeric_limits<int32_t>::max());
    }
    vocabulary_.emplace(token, static_cast<int32_t>(id));
  }

  std::string missing;
  for (int byte = 0; byte < 256; ++byte) {
    const auto id = find(to_byte_level(std::string(1, static_cast<char>(byte))));
    byte_tokens_[byte] = id.value_or(kNone);
    if (!id && byte >= ' ' && byte <= '~') missing += static_cast<char>(byte);
  }
  // Vocabularies without some control characters and bytes that UTF-8 never uses are common
  // (SmolLM2 lacks 21), but what lacks a space or a letter is of another kind.
  if (!missing.empty()) {
    fail(
        "{}: the vocabulary has no token for the characters {}; a byte-level vocabulary has one "
        "for each",
        source, quote(missing));
  }
}

void Bpe::read_merges(const Json& merges, std::string_view source) {
  if (!merges.is_array()) fail("{}: merges is {}, expected an array", source, merges.type_name());
  if (merges.size() > kMaxVocabulary) {
    fail("{}: {} merges, expected at most {}", source, merges.size(), kMaxVocabulary);
  }
  merges_.reserve(merges.size());
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    // merges.txt began with such a line, and old files have it still.
    if (merges[rank].is_string() &&
        merges[rank].get_ref<const std::string&>().starts_with("#version"))
      continue;
    const auto [left, right] = merge_text(merges[rank], rank, source);
    const auto id_of = [&](const std::string& token) {
      const auto id = find(token);
      if (!id) {
        fail("{}: merge {} ({} with {}) needs the token {}, which is not in the vocabulary", source,
             rank, quote(left), quote(right), quote(token));
      }
      return *id;
    };
    const int32_t left_id = id_of(left), right_id = id_of(right), merged = id_of(left + right);
    // A pair that is listed twice has its last rank, as in `tokenizers`.
    merges_[pair_key(left_id, right_id)] = {static_cast<int32_t>(rank), merged};
  }
}

std::optional<int32_t> Bpe::find(const std::string& token) const {
  const auto found = vocabulary_.find(token);
  return found == vocabulary_.end() ? std::nullopt : std::optional(found->second);
}

const Bpe::Merge* Bpe::merge_of(int32_t left, int32_t right) const {
  const auto found = merges_.find(pair_key(left, right));
  return found == merges_.end() ? nullptr : &found->second;
}

void Bpe::push_bytes(std::string_view word, Scratch& scratch) const {
  auto& symbols = scratch.symbols_;
  symbols.clear();
  bool after_unknown = false;
  for (const char c : word) {
    int32_t token = byte_tokens_[static_cast<unsigned char>(c)];
    const bool unknown = token == kNone;
    const bool fused = unknown && fuse_unknown_ && after_unknown;
    if (unknown) token = unknown_;
    after_unknown = unknown;
    if (token == kNone || fused)
      continue;  // the neighbours of what is left out may merge, as in `tokenizers`
    const auto at = static_cast<int32_t>(symbols.size());
    symbols.push_back({.token = token, .previous = at - 1, .next = at + 1, .merged_away = false});
  }
  if (!symbols.empty()) symbols.back().next = kNone;
}

void Bpe::encode(std::string_view word, Scratch& scratch, std::vector<int64_t>& tokens) const {
  if (ignore_merges_) {
    if (const auto id = find(to_byte_level(word))) {
      tokens.push_back(*id);
      return;
    }
  }
  push_bytes(word, scratch);
  auto& symbols = scratch.symbols_;
  auto& heap = scratch.heap_;
  heap.clear();
  for (size_t i = 0; i + 1 < symbols.size(); ++i) {
    if (const Merge* merge = merge_of(symbols[i].token, symbols[i + 1].token)) {
      heap.push_back({merge->rank, static_cast<int32_t>(i), merge->merged});
    }
  }
  std::make_heap(heap.begin(), heap.end());

  const auto consider = [&](int32_t position) {
    if (position == kNone || symbols[position].next == kNone) return;
    if (const Merge* merge =
            merge_of(symbols[position].token, symbols[symbols[position].next].token)) {
      heap.push_back({merge->rank, position, merge->merged});
      std::push_heap(heap.begin(), heap.end());
    }
  };
  while (!heap.empty()) {
    const auto candidate = heap.front();
    std::pop_heap(heap.begin(), heap.end());
    heap.pop_back();
    auto& left = symbols[candidate.position];
    if (left.merged_away || left.next == kNone) continue;
    auto& right = symbols[left.next];
    // A candidate is stale when its neighbours have changed since. `tokenizers` sees that by what
    // they would now become.
    const Merge* merge = merge_of(left.token, right.token);
    if (merge == nullptr || merge->merged != candidate.merged) continue;
    left.token = candidate.merged;
    left.next = right.next;
    right.merged_away = true;
    if (left.next != kNone) symbols[left.next].previous = candidate.position;
    consider(left.previous);
    consider(candidate.position);
  }
  for (const auto& symbol : symbols) {
    if (!symbol.merged_away) tokens.push_back(symbol.token);
  }
}

}  // namespace vyx::models
