#include "core/base/json_guard.h"

#include <algorithm>
#include <iterator>
#include <vector>

#include "core/base/error.h"
#include "core/base/text.h"

namespace vyx {
namespace {

// nlohmann tells its handler no position, so the characters are counted as they are read.
class CountingIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  CountingIterator(const char* at, const char** furthest) : at_(at), furthest_(furthest) {}
  reference operator*() const { return *at_; }
  CountingIterator& operator++() {
    *furthest_ = ++at_;
    return *this;
  }
  bool operator==(const CountingIterator& other) const { return at_ == other.at_; }
  bool operator!=(const CountingIterator& other) const { return at_ != other.at_; }

 private:
  const char* at_;
  const char** furthest_;
};

// Builds the tree and guards it in one pass: a value that is too deep is refused before anything
// recurses into it.
class GuardedBuilder final : public nlohmann::json_sax<Json> {
 public:
  GuardedBuilder(std::string_view text, std::string_view source, const JsonLimits& limits)
      : text_(text), source_(source), limits_(limits), furthest_(text.data()) {}

  CountingIterator begin() { return {text_.data(), &furthest_}; }
  CountingIterator end() { return {text_.data() + text_.size(), &furthest_}; }
  Json take() { return std::move(root_); }

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(int64_t value) override { return add(value); }
  bool number_unsigned(uint64_t value) override { return add(value); }
  bool string(std::string& value) override { return add(std::move(value)); }
  bool binary(Json::binary_t&) override { return false; }  // only in binary formats

  bool number_float(double value, const std::string& digits) override {
    // nlohmann makes a float of an integer that is too large for 64 bits.
    if (digits.find_first_of(".eE") == std::string::npos)
      refuse(fmt::format("number {}", quote(digits)), "an integer that fits 64 bits");
    return add(value);
  }

  bool start_object(size_t) override { return open(Json::object()); }
  bool start_array(size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(std::string& name) override {
    const auto [member, is_new] = open_.back()->get_ref<Json::object_t&>().try_emplace(name);
    if (!is_new) refuse(fmt::format("key {} again", quote(name)), "each key once in an object");
    member_ = &member->second;
    return true;
  }

  bool parse_error(size_t position, const std::string&, const Json::exception& error) override {
    // "[json.exception.parse_error.101] parse error at line 1, column 2: why; last read: 'token';
    // expected what": the token may be as long as the file.
    std::string_view reason = error.what();
    for (const std::string_view prefix : {"] ", "parse error at", ": "})
      if (const size_t at = reason.find(prefix); at != std::string_view::npos)
        reason.remove_prefix(at + prefix.size());
    const size_t cut = std::min(reason.find("; last read: '"), reason.find(" parsing '"));
    std::string brief(reason.substr(0, cut));
    if (cut != std::string_view::npos) brief += reason.substr(reason.rfind('\'') + 1);
    // nlohmann has counted the wrong character already.
    const size_t at = position == 0 ? 0 : position - 1;
    fail("{}: at byte {}: found {}: {}", source_, at,
         at < text_.size() ? quote(text_.substr(at, 1)) : "the end of the text", brief);
  }

 private:
  [[noreturn]] void refuse(std::string_view found, std::string_view expected) const {
    fail("{}: at byte {}: found {}, expected {}", source_, furthest_ - text_.data() - 1, found,
         expected);
  }

  // Where the next value goes: the root, the member whose key was read, or the end of an array.
  Json* place(Json&& value) {
    if (++values_ > limits_.max_values)
      refuse(fmt::format("more than {} values", limits_.max_values), "at most that");
    if (open_.empty()) return &(root_ = std::move(value));
    Json& parent = *open_.back();
    if (parent.is_object()) return &(*member_ = std::move(value));
    parent.get_ref<Json::array_t&>().push_back(std::move(value));
    return &parent.back();
  }

  bool add(Json value) {
    place(std::move(value));
    return true;
  }

  bool open(Json container) {
    if (open_.size() >= static_cast<size_t>(limits_.max_depth))
      refuse(fmt::format("nesting deeper than {}", limits_.max_depth), "at most that");
    open_.push_back(place(std::move(container)));
    return true;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  std::string_view text_, source_;
  const JsonLimits& limits_;
  const char* furthest_;
  Json root_;
  std::vector<Json*> open_;  // containers that are being filled, outermost first
  Json* member_ = nullptr;
  size_t values_ = 0;
};

const Json& member(const Json& object, const char* key, std::string_view source,
                   std::string_view expected) {
  if (!object.is_object())
    fail("{}: found {}, expected an object with the key \"{}\"", source, object.type_name(), key);
  const auto found = object.find(key);
  if (found == object.end()) fail("{}: \"{}\": found nothing, expected {}", source, key, expected);
  return *found;
}

// The value for a message, in a few characters.
std::string describe(const Json& value) {
  if (value.is_string()) return "the string " + quote(value.get_ref<const std::string&>());
  if (value.is_structured()) return fmt::format("an {} of {}", value.type_name(), value.size());
  return value.dump();
}

[[noreturn]] void refuse_member(const Json& value, const char* key, std::string_view source,
                                std::string_view expected) {
  fail("{}: \"{}\": found {}, expected {}", source, key, describe(value), expected);
}

}  // namespace

Json parse_json(std::string_view text, std::string_view source, const JsonLimits& limits) {
  if (text.size() > limits.max_bytes)
    fail("{}: found {} bytes of JSON, expected at most {}", source, text.size(), limits.max_bytes);
  // nlohmann takes a NUL for the end and would ignore what follows it.
  if (const size_t nul = text.find('\0'); nul != std::string_view::npos)
    fail("{}: at byte {}: found a NUL byte, expected JSON text", source, nul);
  GuardedBuilder builder(text, source, limits);
  Json::sax_parse(builder.begin(), builder.end(), &builder);
  return builder.take();
}

std::string json_string(const Json& object, const char* key, std::string_view source) {
  const Json& value = member(object, key, source, "a string");
  if (!value.is_string()) refuse_member(value, key, source, "a string");
  return value.get<std::string>();
}

int64_t json_integer(const Json& object, const char* key, std::string_view source, int64_t min,
                     int64_t max) {
  const std::string expected = fmt::format("an integer from {} to {}", min, max);
  const Json& value = member(object, key, source, expected);
  const bool fits = value.is_number_unsigned()
                        ? value.get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX)
                        : value.is_number_integer();
  if (!fits || value.get<int64_t>() < min || value.get<int64_t>() > max)
    refuse_member(value, key, source, expected);
  return value.get<int64_t>();
}

double json_number(const Json& object, const char* key, std::string_view source) {
  const Json& value = member(object, key, source, "a number");
  if (!value.is_number()) refuse_member(value, key, source, "a number");
  return value.get<double>();
}

bool json_bool(const Json& object, const char* key, std::string_view source) {
  const Json& value = member(object, key, source, "true or false");
  if (!value.is_boolean()) refuse_member(value, key, source, "true or false");
  return value.get<bool>();
}

std::optional<std::string> differing_key(const Json& a, const Json& b,
                                         std::initializer_list<std::string> first) {
  std::vector<std::string> keys(first);
  for (const Json* object : {&a, &b})
    for (const auto& item : object->items()) keys.push_back(item.key());
  const auto differs = [&](const std::string& key) {
    return a.value(key, Json()) != b.value(key, Json());
  };
  const auto found = std::find_if(keys.begin(), keys.end(), differs);
  return found == keys.end() ? std::nullopt : std::optional(*found);
}

}  // namespace vyx
