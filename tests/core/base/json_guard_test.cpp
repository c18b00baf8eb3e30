#include "tests/test_support.h"

#include "core/base/json_guard.h"

using vyx::differing_key;
using vyx::Json;
using vyx::json_bool;
using vyx::json_integer;
using vyx::json_number;
using vyx::json_string;
using vyx::JsonLimits;
using vyx::parse_json;
using vyx::test::contains;
using vyx::test::error_of;

namespace {

std::string refusal(std::string_view text, const JsonLimits& limits = {}) {
  const std::string message = error_of([&] { parse_json(text, "x.json", limits); });
  CHECK_FALSE(contains(message, "\n"));
  CHECK(message.size() < 300);
  return message;
}

std::string repeat(std::string_view part, size_t times) {
  std::string text;
  for (size_t i = 0; i < times; ++i) text += part;
  return text;
}

}  // namespace

TEST_CASE("[core.json_guard] the tree is the one that nlohmann builds") {
  const std::string text =
      R"( {"a": [1, -2, 3.5, 1e3, true, false, null, "é\u00e9\u0000\ud83d\ude00"],
      "b": {"c": {}, "d": [], "e": [[], {"f": [{}]}]},
      "": 18446744073709551615, "min": -9223372036854775808} )";
  CHECK(parse_json(text, "x.json") == Json::parse(text));
  CHECK(parse_json("7", "x.json") == 7);
  CHECK(parse_json("\"\"", "x.json") == "");
}

TEST_CASE("[core.json_guard] nesting is bounded before it is built") {
  CHECK_NOTHROW(parse_json(repeat("[", 64) + repeat("]", 64), "x.json"));
  CHECK(refusal(repeat("[", 65) + repeat("]", 65)) ==
        "x.json: at byte 64: found nesting deeper than 64, expected at most that");
  CHECK(contains(refusal(repeat("{\"a\":", 1'000'000)), "found nesting deeper than 64"));
  CHECK(contains(refusal(repeat("[", 10'000'000)), "found nesting deeper than 64"));
  CHECK(contains(refusal("[[1]]", {.max_depth = 1}), "found nesting deeper than 1"));
  CHECK_NOTHROW(parse_json("[[],[],{}]", "x.json", {.max_depth = 2}));  // depth, not number
}

TEST_CASE("[core.json_guard] a key stands once in its object") {
  CHECK(refusal(R"({"a": 1, "b": 2, "a": 3})") ==
        "x.json: at byte 19: found key \"a\" again, expected each key once in an object");
  CHECK(contains(refusal(R"({"a": 1, "\u0061": 2})"), "found key \"a\" again"));
  CHECK(contains(refusal(R"([{"x": {"k": [], "k": []}}])"), "found key \"k\" again"));
  CHECK_NOTHROW(parse_json(R"([{"a": {"a": 1}}, {"a": 2}])", "x.json"));
}

TEST_CASE("[core.json_guard] size and number of values are bounded") {
  CHECK(refusal("[1,2,3]", {.max_bytes = 6}) ==
        "x.json: found 7 bytes of JSON, expected at most 6");
  CHECK(contains(refusal("[1,2,3]", {.max_values = 3}), "found more than 3 values"));
  CHECK_NOTHROW(parse_json("[1,2,3]", "x.json", {.max_bytes = 7, .max_values = 4}));
}

TEST_CASE("[core.json_guard] numbers that do not fit are not rounded") {
  CHECK(contains(refusal("[18446744073709551616]"),
                 "found number \"18446744073709551616\", expected an integer that fits 64 bits"));
  CHECK(contains(refusal("-9223372036854775809"), "an integer that fits 64 bits"));
  CHECK(contains(refusal("[1e999]"), "number overflow"));
  CHECK(contains(refusal("[1" + repeat("0", 100'000) + "]"), "number overflow"));
  CHECK(parse_json("1.0e2", "x.json").is_number_float());
}

TEST_CASE("[core.json_guard] what is not JSON") {
  CHECK(
      contains(refusal(""),
               "x.json: at byte 0: found the end of the text: "));  // the rest is the parser's own
  CHECK(contains(refusal("{\"a\": 1} x"), "at byte 9: found \"x\": "));
  CHECK(contains(refusal("{} {}"), "at byte 3: found \"{\": "));
  CHECK(refusal(std::string_view("{}\0{\"hidden\": 1}", 16)) ==
        "x.json: at byte 2: found a NUL byte, expected JSON text");
  for (const char* text : {"{", "[1,]", "{\"a\"}", "{a: 1}", "'a'", "[1 2]", "tru", "01", "+1",
                           ".5", "NaN", "Infinity", "// no\n1", "\"a\nb\""})
    CHECK_MESSAGE(contains(refusal(text), "x.json: at byte "), text);
  CHECK(contains(refusal("[\"" + repeat("long", 100'000)),
                 "x.json: at byte 400002: found the end of the text: "));
}

TEST_CASE("[core.json_guard] text must be UTF-8, and escapes whole characters") {
  for (const char* text :
       {"\"\xff\"", "\"\xc0\x80\"", "\"\xed\xa0\x80\"", "\"\xf4\x90\x80\x80\"", "\"\xe2\x82\""})
    CHECK(contains(refusal(text), "ill-formed UTF-8"));
  for (const char* text : {R"("\ud800")", R"("\udc00")", R"("\ud800\u0041")", R"("\u12")"})
    CHECK_FALSE(refusal(text).empty());
}

TEST_CASE("[core.json_guard] getters take exactly their type") {
  const Json object = parse_json(
      R"({"s": "text", "i": 7, "n": -1, "f": 3.5, "one": 1.0, "big": 18446744073709551615,)"
      R"( "b": true, "z": null, "l": [1, 2]})",
      "x.json");
  CHECK(json_string(object, "s", "x.json") == "text");
  CHECK(json_integer(object, "i", "x.json", 0, 7) == 7);
  CHECK(json_integer(object, "n", "x.json", -1, 7) == -1);
  CHECK(json_number(object, "f", "x.json") == 3.5);
  CHECK(json_number(object, "n", "x.json") == -1.0);
  CHECK(json_bool(object, "b", "x.json"));

  CHECK(error_of([&] { json_integer(object, "n", "x.json", 0, 9); }) ==
        "x.json: \"n\": found -1, expected an integer from 0 to 9");
  for (const char* key : {"f", "one", "big", "s", "b", "z", "l", "absent"})
    CHECK_MESSAGE(
        contains(error_of([&] { json_integer(object, key, "x.json", INT64_MIN, INT64_MAX); }),
                 "expected an integer from"),
        key);
  for (const char* key : {"i", "b", "z", "l", "absent"})
    CHECK_MESSAGE(
        contains(error_of([&] { json_string(object, key, "x.json"); }), "expected a string"), key);
  for (const char* key : {"s", "b", "z", "l", "absent"})
    CHECK_MESSAGE(
        contains(error_of([&] { json_number(object, key, "x.json"); }), "expected a number"), key);
  for (const char* key : {"i", "s", "z", "l", "absent"})
    CHECK_MESSAGE(
        contains(error_of([&] { json_bool(object, key, "x.json"); }), "expected true or false"),
        key);
  CHECK(error_of([&] { json_string(object, "l", "x.json:3"); }) ==
        "x.json:3: \"l\": found an array of 2, expected a string");
  CHECK(error_of([&] { json_string(object, "absent", "x.json"); }) ==
        "x.json: \"absent\": found nothing, expected a string");
  CHECK(error_of([&] { json_string(Json::array(), "k", "x.json"); }) ==
        "x.json: found array, expected an object with the key \"k\"");
}

TEST_CASE("[core.json] two objects' first differing key is found, the ones asked for first") {
  const Json a{{"a", 1}, {"b", 2}, {"c", 3}};
  CHECK(!differing_key(a, a));
  CHECK(differing_key(a, Json{{"a", 1}, {"b", 5}, {"c", 4}}) == "b");
  CHECK(differing_key(a, Json{{"a", 1}, {"b", 5}, {"c", 4}}, {"c", "b"}) == "c");
  CHECK(differing_key(a, Json{{"a", 1}, {"b", 2}}) == "c");
  CHECK(differing_key(Json{{"a", 1}}, Json{{"a", 1}, {"z", 0}}) == "z");
}
