#include "models/tokenizer/tokenizer.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "core/base/error.h"
#include "core/base/json_guard.h"
#include "core/base/text.h"
#include "core/base/utf8.h"
#include "models/tokenizer/added_tokens.h"
#include "models/tokenizer/bpe.h"
#include "models/tokenizer/byte_level.h"
#include "models/tokenizer/pre_tokenizer.h"

namespace vyx::models {
namespace {

/// A token by id.
struct Entry {
  std::string bytes;
  bool known = false;  // ids may have holes
  bool special = false;
};

const Json& member(const Json& root, const char* key) {
  static const Json kNull;
  return root.contains(key) ? root[key] : kNull;
}

/// The type of a part that may be null or absent: "".
std::string type_of(const Json& part, const char* key, std::string_view source) {
  if (part.is_null()) return {};
  if (!part.is_object())
    fail("{}: {} is {}, expected an object or null", source, key, part.type_name());
  return json_string(part, "type", source);
}

/// Post-processors may add tokens around a text; only those that leave it as it is are accepted.
void check_post_processor(const Json& part, std::string_view source) {
  const std::string type = type_of(part, "post_processor", source);
  if (type.empty() || type == "ByteLevel")
    return;  // ByteLevel changes offsets, which vyx does not report
  if (type == "Sequence" && member(part, "processors").is_array()) {
    for (const Json& processor : part["processors"]) check_post_processor(processor, source);
    return;
  }
  if (type == "TemplateProcessing") {
    const Json& single = member(part, "single");
    if (single.is_array() && single.size() == 1 && single[0].contains("Sequence")) return;
    fail(
        "{}: post_processor TemplateProcessing adds tokens to each text, which is not supported: "
        "set it to null and write the tokens into the text",
        source);
  }
  fail("{}: post_processor {} is not supported; ByteLevel is, and null", source, quote(type));
}

void check_parts(const Json& root, std::string_view source) {
  if (!root.is_object())
    fail("{}: found {}, expected the object of a tokenizer.json", source, root.type_name());
  if (const Json& version = member(root, "version"); !version.is_null()) {
    const std::string text = json_string(root, "version", source);
    if (text != "1.0") fail("{}: tokenizer version {}, expected \"1.0\"", source, quote(text));
  }
  for (const char* key : {"truncation", "padding"}) {
    if (!member(root, key).is_null())
      fail("{}: {} is set; set it to null, texts are encoded whole", source, key);
  }
  if (const std::string type = type_of(member(root, "normalizer"), "normalizer", source);
      !type.empty()) {
    fail("{}: normalizer {} is not supported, expected null", source, quote(type));
  }
  if (const std::string type = type_of(member(root, "decoder"), "decoder", source);
      type != "ByteLevel") {
    fail("{}: decoder {} is not supported, expected ByteLevel", source,
         type.empty() ? "null" : quote(type));
  }
  check_post_processor(member(root, "post_processor"), source);
}

std::vector<AddedToken> with_normalized(const std::vector<AddedToken>& tokens, bool normalized) {
  std::vector<AddedToken> chosen;
  std::copy_if(tokens.begin(), tokens.end(), std::back_inserter(chosen),
               [&](const AddedToken& token) { return token.normalized == normalized; });
  return chosen;
}

/// Every token by its id. Ids may not repeat, nor be so sparse that a table by id would be huge.
std::vector<Entry> table_by_id(const Bpe& bpe, const std::vector<AddedToken>& added,
                               std::string_view source) {
  const size_t count = bpe.vocabulary().size() + added.size(), limit = 4 * count + 1024;
  std::vector<Entry> table;
  const auto put = [&](int32_t id, const std::string& token, Entry entry) {
    const auto index = static_cast<size_t>(id);
    if (index >= limit) {
      fail("{}: token {} has the id {}, expected less than {} (there are {} tokens)", source,
           quote(token), id, limit, count);
    }
    if (table.size() <= index) table.resize(index + 1);
    if (table[index].known)
      fail("{}: two tokens have the id {}; one is {}", source, id, quote(token));
    entry.known = true;
    table[index] = std::move(entry);
  };
  // Characters that stand for no byte ("<｜end｜>") are found in added tokens, and in tokens that
  // encode() never makes: these are their own text.
  for (const auto& [token, id] : bpe.vocabulary()) {
    put(id, token, {.bytes = from_byte_level(token).value_or(token)});
  }
  std::unordered_set<std::string_view> contents;
  for (const AddedToken& token : added) {
    if (!contents.insert(token.content).second)
      fail("{}: the added token {} is listed twice", source, quote(token.content));
    if (const auto id = bpe.find(token.content)) {
      if (*id != token.id) {
        fail("{}: the added token {} has the id {}, but {} in the vocabulary", source,
             quote(token.content), token.id, *id);
      }
      table[*id] = {.bytes = token.content, .known = true, .special = token.special};
    } else {
      put(token.id, token.content, {.bytes = token.content, .special = token.special});
    }
  }
  return table;
}

}  // namespace

struct Tokenizer::Impl {
  class Encoding;

  std::string source;
  Bpe bpe;
  PreTokenizer pre_tokenizer;
  std::unordered_map<std::string, TokenId> added_ids;
  AddedTokenMatcher first,
      second;  // normalized tokens are looked for in what the others leave, as in `tokenizers`
  std::vector<Entry> table;

  const Entry& entry(TokenId token) const {
    if (token < 0 || static_cast<size_t>(token) >= table.size() || !table[token].known) {
      fail("{}: {} is no token, expected an id below {}", source, token, table.size());
    }
    return table[token];
  }
};

/// One call of encode(): the words met so far, and what is reused from one to the next.
class Tokenizer::Impl::Encoding {
 public:
  Encoding(const Impl& tokenizer, const EncodeOptions& options, size_t text_bytes)
      : tokenizer_(tokenizer), options_(options), budget_(text_bytes) {}

  std::vector<TokenId> run(std::string_view text) {
    add_around(tokenizer_.first, text, [&](std::string_view rest) {
      add_around(tokenizer_.second, rest, [&](std::string_view plain) { add_plain(plain); });
    });
    return std::move(tokens_);
  }

 private:
  /// Adds the tokens that `matcher` finds, and gives what lies between them to `add_rest`.
  template <class AddRest>
  void add_around(const AddedTokenMatcher& matcher, std::string_view text, AddRest add_rest) {
    size_t done = 0, from = 0;
    while (const auto match = matcher.find(text, from)) {
      from = match->begin + match->token->content.size();
      if (match->token->special && !options_.special_tokens) continue;
      if (match->begin > done) add_rest(text.substr(done, match->begin - done));
      tokens_.push_back(match->token->id);
      done = from;
    }
    if (done < text.size()) add_rest(text.substr(done));
  }

  void add_plain(std::string_view text) {
    while (!text.empty()) {
      if (const size_t length = well_formed_prefix(text)) {
        for (const auto word : tokenizer_.pre_tokenizer.split(text.substr(0, length), budget_))
          add_word(word);
        text.remove_prefix(length);
      } else {
        // Each ill-formed sequence is a word of its own.
        const size_t broken = utf8_step(text).length;
        add_word(text.substr(0, broken));
        text.remove_prefix(broken);
      }
    }
  }

  void add_word(std::string_view word) {
    const auto [known, is_new] = seen_.try_emplace(word, Range{tokens_.size(), 0});
    Range& range = known->second;
    if (is_new) {
      tokenizer_.bpe.encode(word, scratch_, tokens_);
      range.count = tokens_.size() - range.begin;
    } else {
      for (size_t i = 0; i < range.count; ++i) tokens_.push_back(tokens_[range.begin + i]);
    }
  }

  /// Where the tokens of a word stand in tokens_: the result is its own cache.
  struct Range {
    size_t begin, count;
  };

  const Impl& tokenizer_;
  const EncodeOptions& options_;
  SearchBudget budget_;
  Bpe::Scratch scratch_;
  std::unordered_map<std::string_view, Range> seen_;
  std::vector<TokenId> tokens_;
};

Tokenizer::Tokenizer(std::unique_ptr<const Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::from_json(std::string_view json, std::string_view source) {
  const Json root = parse_json(json, source);
  check_parts(root, source);
  if (!root.contains("model")) fail("{}: no model, expected a tokenizer.json", source);
  Bpe bpe = Bpe::from_json(root["model"], source);
  const Json& list = member(root, "added_tokens");
  const std::vector<AddedToken> added =
      list.is_null() ? std::vector<AddedToken>() : read_added_tokens(list, source);
  std::vector<Entry> table = table_by_id(bpe, added, source);
  std::unordered_map<std::string, TokenId> added_ids;
  for (const AddedToken& token : added) added_ids.emplace(token.content, token.id);
  return Tokenizer(std::unique_ptr<const Impl>(
      new Impl{.source = std::string(source),
               .bpe = std::move(bpe),
               .pre_tokenizer = PreTokenizer::from_json(member(root, "pre_tokenizer"), source),
               .added_ids = std::move(added_ids),
               .first = AddedTokenMatcher(with_normalized(added, false)),
               .second = AddedTokenMatcher(with_normalized(added, true)),
               .table = std::move(table)}));
}

std::vector<TokenId> Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  return Impl::Encoding(*impl_, options, text.size()).run(text);
}

std::string Tokenizer::decode(std::span<const TokenId> tokens, bool skip_special) const {
  std::string text;
  for (const TokenId token : tokens) {
    const Entry& entry = impl_->entry(token);
    if (!entry.special || !skip_special) text += entry.bytes;
  }
  return text;
}

const std::string& Tokenizer::bytes(TokenId token) const {
  return impl_->entry(token).bytes;
}

int64_t Tokenizer::vocabulary_size() const {
  return static_cast<int64_t>(impl_->table.size());
}

bool Tokenizer::is_special(TokenId token) const {
  return impl_->entry(token).special;
}

std::optional<TokenId> Tokenizer::find(std::string_view token) const {
  const std::string key(token);
  if (const auto added = impl_->added_ids.find(key); added != impl_->added_ids.end())
    return added->second;
  return impl_->bpe.find(key);
}

int64_t Tokenizer::bytes_without_token(std::string_view text) const {
  return std::count_if(text.begin(), text.end(),
                       [&](char c) { return !impl_->bpe.has_byte(static_cast<unsigned char>(c)); });
}

}  // namespace vyx::models
