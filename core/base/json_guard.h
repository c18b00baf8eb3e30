// JSON from files that others wrote: bounded in size, depth and number of values, duplicate keys
// refused, and typed getters that do not convert (nlohmann's get<uint64_t>() turns -1 and 3.5 into
// integers without a word).
#pragma once
#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace vyx {

using Json = nlohmann::json;

struct JsonLimits {
  size_t max_bytes = 256u << 20;
  int max_depth = 64;
  size_t max_values = 8u << 20;  // a value takes up to 100 times its text in memory
};

/// Parses `text`; throws Error naming `source` (a file, or `file:line`), the byte and the reason.
/// Refuses invalid UTF-8, nesting beyond the limit, duplicate keys, numbers that do not fit, and
/// anything after the value.
Json parse_json(std::string_view text, std::string_view source, const JsonLimits& limits = {});

/// The member `key` of `object`, of exactly that type; throws Error naming `source` and the key
/// otherwise.
std::string json_string(const Json& object, const char* key, std::string_view source);
int64_t json_integer(const Json& object, const char* key, std::string_view source, int64_t min,
                     int64_t max);
double json_number(const Json& object, const char* key, std::string_view source);
bool json_bool(const Json& object, const char* key, std::string_view source);

/// A key whose values differ in two objects; a key that only one of them has differs too. The keys
/// of `first` are looked at first, in that order.
std::optional<std::string> differing_key(const Json& a, const Json& b,
                                         std::initializer_list<std::string> first = {});

}  // namespace vyx
