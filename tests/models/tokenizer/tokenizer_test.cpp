#include "tests/test_support.h"

#include <algorithm>
#include <chrono>
#include <thread>
#include <vector>

#include "core/base/json_guard.h"
#include "models/tokenizer/byte_level.h"
#include "models/tokenizer/tokenizer.h"

using namespace vyx::models;
using vyx::Json;
using vyx::test::contains;
using vyx::test::error_of;

namespace {

using Ids = std::vector<TokenId>;

Json added(const std::string& content, int64_t id, bool special = true) {
  return {{"id", id},        {"content", content}, {"special", special},  {"normalized", false},
          {"lstrip", false}, {"rstrip", false},    {"single_word", false}};
}

Json split(const std::string& regex) {
  return {{"type", "Split"},
          {"pattern", {{"Regex", regex}}},
          {"behavior", "Isolated"},
          {"invert", false}};
}

const Json kByteLevel = {{"type", "ByteLevel"}, {"add_prefix_space", false}};

/// A tokenizer.json with the 256 bytes as tokens of the same id, then those that `merges` make.
Json tokenizer_json(const std::vector<std::pair<std::string, std::string>>& merges = {}) {
  Json vocabulary, list = Json::array();
  for (int byte = 0; byte < 256; ++byte)
    vocabulary[to_byte_level(std::string(1, static_cast<char>(byte)))] = byte;
  for (const auto& [left, right] : merges) {
    if (!vocabulary.contains(left + right)) vocabulary[left + right] = vocabulary.size();
    list.push_back(left + " " + right);
  }
  return {{"version", "1.0"},
          {"added_tokens", Json::array()},
          {"normalizer", nullptr},
          {"pre_tokenizer", kByteLevel},
          {"post_processor", nullptr},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", list}}}};
}

Tokenizer load(const Json& json) {
  return Tokenizer::from_json(json.dump(), "t.json");
}

std::string load_error(const Json& json) {
  const std::string message = error_of([&] { load(json); });
  CHECK(message.find('\n') == std::string::npos);
  return message;
}

/// What the pre-tokenizer cuts the joined `expected` into, as far as that is `expected`: each of
/// them is a token, and ignore_merges makes a word that is a token that token. What is cut
/// otherwise comes out in bytes.
std::vector<std::string> words(const Json& pre_tokenizer,
                               const std::vector<std::string>& expected) {
  Json json = tokenizer_json();
  json["pre_tokenizer"] = pre_tokenizer;
  json["model"]["ignore_merges"] = true;
  std::string text;
  for (const std::string& word : expected) {
    text += word;
    Json& vocabulary = json["model"]["vocab"];
    if (!vocabulary.contains(to_byte_level(word)))
      vocabulary[to_byte_level(word)] = vocabulary.size();
  }
  const Tokenizer tokenizer = load(json);
  std::vector<std::string> found;
  for (const TokenId token : tokenizer.encode(text)) found.push_back(tokenizer.bytes(token));
  return found;
}

}  // namespace

TEST_CASE("[models.tokenizer] the byte alphabet is GPT-2's and has an inverse") {
  CHECK(to_byte_level(" the\n") == "ĠtheĊ");
  CHECK(to_byte_level(std::string_view("\0\x7F\xA0\xAD\xFF", 5)) == "ĀġłŃÿ");
  std::string all;
  for (int byte = 0; byte < 256; ++byte) all += static_cast<char>(byte);
  CHECK(from_byte_level(to_byte_level(all)) == all);
  CHECK(!from_byte_level("a b"));
  CHECK(!from_byte_level("▁the"));
  CHECK(!from_byte_level("Ń\u0144"));
}

TEST_CASE("[models.tokenizer] merges go by rank, and from the left among equals") {
  const Tokenizer tokenizer =
      load(tokenizer_json({{"b", "c"}, {"a", "b"}, {"a", "a"}, {"aa", "aa"}}));
  const TokenId bc = 256, ab = 257, aa = 258, aaaa = 259;
  CHECK(tokenizer.encode("abc") == Ids{'a', bc});  // not ab c: its rank is higher
  CHECK(tokenizer.encode("ab") == Ids{ab});
  CHECK(tokenizer.encode("aaa") == Ids{aa, 'a'});
  CHECK(tokenizer.encode("aaaaaaa") == Ids{aaaa, aa, 'a'});
  CHECK(tokenizer.encode("").empty());
}

TEST_CASE("[models.tokenizer] merges may be pairs, and a pair listed twice has its last rank") {
  Json json = tokenizer_json({{"a", "b"}, {"b", "c"}});
  json["model"]["merges"] = Json::parse(R"([["a", "b"], ["b", "c"], ["a", "b"]])");
  CHECK(load(json).encode("abc") == Ids{'a', 257});
}

TEST_CASE("[models.tokenizer] any bytes come back as they were") {
  const Tokenizer tokenizer =
      load(tokenizer_json({{"a", "b"}, {"Ġ", "a"}, {"â", "Ĥ"}, {"âĤ", "¬"}}));
  std::mt19937 random(7);
  for (int round = 0; round < 2000; ++round) {
    std::string text(random() % 40, '\0');
    for (char& c : text)
      c = random() % 3 == 0 ? "ab \n1é"[random() % 7] : static_cast<char>(random());
    CHECK(tokenizer.decode(tokenizer.encode(text)) == text);
  }
}

TEST_CASE("[models.tokenizer] an ill-formed sequence is a word of its own") {
  const Tokenizer tokenizer =
      load(tokenizer_json({{"â", "Ĥ"}, {"âĤ", "¬"}, {"x", "â"}, {"ÿ", "ÿ"}}));
  CHECK(tokenizer.encode("x€x") == Ids{'x', 257, 'x'});
  CHECK(tokenizer.encode("x\xE2\x82x") ==
        Ids{'x', 256, 'x'});  // a cut-off € merges in itself, and with nothing around it
  CHECK(tokenizer.encode("\xFF\xFF") == Ids{0xFF, 0xFF});
}

TEST_CASE("[models.tokenizer] a byte without a token is left out, or becomes unk_token") {
  Json json = tokenizer_json({{"!", "!"}});
  json["model"]["vocab"].erase(to_byte_level("\x04"));
  json["model"]["vocab"].erase(to_byte_level("\x06"));
  json["model"]["vocab"]["<unk>"] = 4;
  CHECK(load(json).encode("!\x04!") == Ids{256});  // the neighbours meet
  CHECK(load(json).bytes_without_token("!\x04!\x06\x06") == 3);
  CHECK(load(json).bytes_without_token("!!") == 0);
  json["model"]["unk_token"] = "<unk>";
  CHECK(load(json).encode("!\x04\x06!") == Ids{'!', 4, 4, '!'});
  json["model"]["fuse_unk"] = true;
  CHECK(load(json).encode("!\x04\x06!\x04") == Ids{'!', 4, '!', 4});
}

TEST_CASE("[models.tokenizer] added tokens: leftmost, then longest, and plain text on request") {
  Json json = tokenizer_json();
  json["added_tokens"] = {added("<s>", 300), added("<s>x", 301), added("x<", 302, false),
                          added("bc", 303)};
  const Tokenizer tokenizer = load(json);
  CHECK(tokenizer.encode("a<s>b") == Ids{'a', 300, 'b'});
  CHECK(tokenizer.encode("<s>x<") == Ids{301, '<'});
  CHECK(tokenizer.encode("<s<s>") == Ids{'<', 's', 300});
  CHECK(tokenizer.encode("x<s>") == Ids{302, 's', '>'});
  CHECK(tokenizer.encode("abcbc") == Ids{'a', 303, 303});
  CHECK(tokenizer.encode("<s>ax<", {.special_tokens = false}) == Ids{'<', 's', '>', 'a', 302});
  CHECK(tokenizer.decode(Ids{300, 'a', 302}) == "<s>ax<");
  CHECK(tokenizer.decode(Ids{300, 'a', 302}, true) == "ax<");
  CHECK(tokenizer.is_special(300));
  CHECK(!tokenizer.is_special(302));
  CHECK(!tokenizer.is_special('a'));
  CHECK(tokenizer.find("<s>") == 300);
  CHECK(tokenizer.find("Ġ") == ' ');
  CHECK(!tokenizer.find(" "));
  CHECK(tokenizer.vocabulary_size() == 304);
}

TEST_CASE("[models.tokenizer] normalized added tokens are looked for in what the others leave") {
  Json json = tokenizer_json();
  json["added_tokens"] = {added("bc", 256), added("ab", 257)};
  json["added_tokens"][1]["normalized"] = true;
  CHECK(load(json).encode("abc ab") == Ids{'a', 256, ' ', 257});
}

TEST_CASE("[models.tokenizer] an id that is no token is an error") {
  Json json = tokenizer_json();
  json["added_tokens"] = {added("<s>", 300)};
  const Tokenizer tokenizer = load(json);
  CHECK(contains(error_of([&] { tokenizer.decode(Ids{257}); }),
                 "t.json: 257 is no token, expected an id below 301"));
  CHECK(contains(error_of([&] { tokenizer.bytes(-1); }), "-1 is no token"));
  CHECK(contains(error_of([&] { tokenizer.is_special(301); }), "301 is no token"));
}

TEST_CASE("[models.tokenizer] ByteLevel cuts as GPT-2 does") {
  const std::vector<std::string> pieces = {"It", "'s", " 12", "!?",       " ", " Wörter",
                                           "\t", "\n", "x",   "\xC2\x85", "'S"};
  std::vector<std::string> expected = pieces;
  expected.back() = "'";
  expected.push_back("S");
  CHECK(words(kByteLevel, pieces) == expected);
  Json plain = kByteLevel;
  plain["use_regex"] = false;
  CHECK(words(plain, {"It's 12!? \n"}) == std::vector<std::string>{"It's 12!? \n"});
}

TEST_CASE("[models.tokenizer] U+180E is no blank, U+0085 is one") {
  const std::vector<std::string> pieces = {"!\u180E", " ", "\u0085", "a"};
  CHECK(words(kByteLevel, pieces) == pieces);
}

TEST_CASE("[models.tokenizer] a match is found after any distance") {
  Json plain = kByteLevel;
  plain["use_regex"] = false;
  const Json digits = {
      {"type", "Sequence"},
      {"pretokenizers", {{{"type", "Digits"}, {"individual_digits", true}}, plain}}};
  std::string gap;
  for (int length = 1; length < 150; ++length) {
    gap += length % 3 == 0 ? "é" : "e";
    const std::vector<std::string> pieces = {gap, "1", "b"};
    CHECK(words(digits, pieces) == pieces);
  }
}

TEST_CASE("[models.tokenizer] Digits isolates each number character, or runs of them") {
  const auto sequence = [](bool individual) {
    return Json{
        {"type", "Sequence"},
        {"pretokenizers", {{{"type", "Digits"}, {"individual_digits", individual}}, kByteLevel}}};
  };
  const std::vector<std::string> single = {"a", " ", "1", "४", "Ⅷ", "½", "b"},
                                 runs = {"a", " ", "1४Ⅷ½", "b"};
  CHECK(words(sequence(true), single) == single);
  CHECK(words(sequence(false), runs) == runs);
}

TEST_CASE("[models.tokenizer] Split isolates or removes, by pattern or text") {
  Json plain = kByteLevel;
  plain["use_regex"] = false;
  const auto sequence = [&](Json step) {
    return Json{{"type", "Sequence"}, {"pretokenizers", {step, plain}}};
  };
  // Llama 3's pattern, case-insensitive contractions and numbers of up to three digits among it.
  const Json llama = split(R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|)"
                           R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)");
  const std::vector<std::string> pieces = {"It",  "'S",  " ",   "123", "45",
                                           " ok", "!\n", " \n", "  ",  " x"};
  CHECK(words(sequence(llama), pieces) == pieces);

  CHECK(words(sequence(split(R"(\d)")), {"a", "1", "४", "b"}) ==
        std::vector<std::string>{"a", "1", "४", "b"});

  Json text = split("");
  text["pattern"] = {{"String", "a."}};
  CHECK(words(sequence(text), {"b", "a.", "ab"}) == std::vector<std::string>{"b", "a.", "ab"});
  text["behavior"] = "Removed";
  CHECK(words(sequence(text), {"b", "a.", "ab"}) == std::vector<std::string>{"b", "ab"});
  text["invert"] = true;
  CHECK(words(sequence(text), {"b", "a.", "ab"}) == std::vector<std::string>{"a."});
}

TEST_CASE("[models.tokenizer] a megabyte without a break takes no time to speak of") {
  const Tokenizer tokenizer =
      load(tokenizer_json({{"a", "a"}, {"aa", "aa"}, {"aaaa", "aaaa"}, {"Ġ", "Ġ"}}));
  for (const std::string_view unit : {"a", " ", "\n", "1", "é", "\xFF"}) {
    std::string text;
    while (text.size() < 1'000'000) text += unit;
    const auto begin = std::chrono::steady_clock::now();
    const Ids tokens = tokenizer.encode(text);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    CHECK(seconds.count() < 20);  // about 0.3 s; merging in quadratic time would take an hour
    CHECK(tokenizer.decode(tokens) == text);
  }
}

TEST_CASE("[models.tokenizer] 100,000 added tokens cost no more than a few") {
  Json json = tokenizer_json();
  for (int i = 0; i < 100'000; ++i)
    json["added_tokens"].push_back(added("<t" + std::to_string(i) + ">", 256 + i));
  const Tokenizer tokenizer = load(json);
  std::string text;
  for (int i = 0; i < 20'000; ++i) text += "<t<t" + std::to_string(i) + ">";
  const auto begin = std::chrono::steady_clock::now();
  const Ids tokens = tokenizer.encode(text);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  CHECK(seconds.count() < 5);  // about 0.02 s; trying each token at each byte would take minutes
  CHECK(tokens.size() == 60'000);
  CHECK(tokens[59'999] == 256 + 19'999);
}

TEST_CASE("[models.tokenizer] threads share one tokenizer") {
  const Tokenizer tokenizer = load(tokenizer_json({{"a", "b"}, {"Ġ", "ab"}}));
  std::string text;
  for (int i = 0; i < 2'000; ++i) text += " ab" + std::to_string(i);
  const Ids expected = tokenizer.encode(text);
  std::vector<Ids> found(4);
  std::vector<std::thread> threads;
  for (Ids& ids : found) threads.emplace_back([&] { ids = tokenizer.encode(text); });
  for (std::thread& thread : threads) thread.join();
  for (const Ids& ids : found) CHECK(ids == expected);
}

TEST_CASE("[models.tokenizer] what byte-level BPE does not have is refused by name") {
  const auto with = [](const char* pointer, const Json& value) {
    Json json = tokenizer_json();
    json[Json::json_pointer(pointer)] = value;
    return load_error(json);
  };
  CHECK(contains(with("/model/type", "Unigram"),
                 "t.json: model type is \"Unigram\"; vyx reads byte-level BPE"));
  CHECK(contains(with("/model/dropout", 0.1), "dropout \"0.1\""));
  CHECK(contains(with("/model/byte_fallback", true), "byte_fallback"));
  CHECK(contains(with("/model/end_of_word_suffix", "</w>"), "end_of_word_suffix \"</w>\""));
  CHECK(
      contains(with("/model/continuing_subword_prefix", "##"), "continuing_subword_prefix \"##\""));
  CHECK(
      contains(with("/model/unk_token", "<unk>"), "unk_token \"<unk>\" is not in the vocabulary"));
  CHECK(contains(with("/normalizer", {{"type", "NFC"}}),
                 "normalizer \"NFC\" is not supported, expected null"));
  CHECK(contains(with("/decoder", nullptr), "decoder null is not supported, expected ByteLevel"));
  CHECK(contains(with("/decoder", {{"type", "Metaspace"}}), "decoder \"Metaspace\""));
  CHECK(contains(with("/truncation", {{"max_length", 0}}), "truncation is set; set it to null"));
  CHECK(contains(with("/padding", {{"strategy", "BatchLongest"}}), "padding is set"));
  CHECK(contains(with("/version", "2.0"), "tokenizer version \"2.0\", expected \"1.0\""));
  CHECK(contains(with("/pre_tokenizer", nullptr), "a pre_tokenizer is null, expected an object"));
  CHECK(contains(with("/pre_tokenizer", {{"type", "Whitespace"}}),
                 "pre_tokenizer \"Whitespace\" is not supported"));
  CHECK(contains(with("/pre_tokenizer/add_prefix_space", true),
                 "ByteLevel with add_prefix_space is not supported"));
  CHECK(contains(with("/pre_tokenizer", {{"type", "Digits"}, {"individual_digits", true}}),
                 "has no ByteLevel"));
  CHECK(contains(
      with("/pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", {kByteLevel, split("a")}}}),
      "follows ByteLevel, which must be the last"));
  Json contiguous = split("a");
  contiguous["behavior"] = "Contiguous";
  CHECK(contains(with("/pre_tokenizer", contiguous),
                 "Split with behavior \"Contiguous\" is not supported"));
  CHECK(contains(with("/post_processor", {{"type", "BertProcessing"}}),
                 "post_processor \"BertProcessing\""));
  CHECK(contains(
      with("/post_processor",
           {{"type", "TemplateProcessing"},
            {"single", {{{"SpecialToken", {{"id", "<s>"}}}}, {{"Sequence", {{"id", "A"}}}}}}}),
      "TemplateProcessing adds tokens to each text"));
  CHECK(with("/post_processor",
             {{"type", "TemplateProcessing"}, {"single", {{{"Sequence", {{"id", "A"}}}}}}}) == "");
  CHECK(with("/post_processor", {{"type", "ByteLevel"}}) == "");
  for (const char* key : {"lstrip", "rstrip", "single_word"}) {
    Json token = added("<m>", 256);
    token[key] = true;
    CHECK(contains(with("/added_tokens", Json::array({token})),
                   std::string("added token \"<m>\" has ") + key));
  }
}

TEST_CASE("[models.tokenizer.hostile] damaged files are refused with a reason") {
  const auto edited = [](auto edit) {
    Json json = tokenizer_json({{"a", "b"}});
    edit(json);
    return load_error(json);
  };
  // K1, and no JSON, and another JSON
  CHECK(contains(error_of([] { Tokenizer::from_json(std::string(100'000, '['), "t.json"); }),
                 "t.json"));
  CHECK(contains(error_of([] { Tokenizer::from_json("", "t.json"); }), "t.json"));
  CHECK(contains(error_of([] { Tokenizer::from_json("[]", "t.json"); }),
                 "found array, expected the object"));
  CHECK(contains(error_of([] { Tokenizer::from_json("{}", "t.json"); }), "decoder null"));
  CHECK(contains(edited([](Json& j) { j.erase("model"); }), "no model, expected a tokenizer.json"));
  CHECK(contains(edited([](Json& j) { j["model"] = 3; }), "model is number, expected an object"));
  CHECK(contains(edited([](Json& j) { j["model"].erase("vocab"); }), "model has no vocab"));
  CHECK(contains(edited([](Json& j) { j["model"].erase("merges"); }), "model has no merges"));
  CHECK(contains(edited([](Json& j) { j["model"]["vocab"] = {1}; }),
                 "vocab is array, expected an object"));
  // K3
  CHECK(contains(edited([](Json& j) { j["model"]["vocab"]["ab"] = -1; }),
                 "token \"ab\" has the id \"-1\""));
  CHECK(contains(edited([](Json& j) { j["model"]["vocab"]["ab"] = 1ll << 32; }),
                 "has the id \"4294967296\""));
  CHECK(contains(edited([](Json& j) { j["model"]["vocab"]["ab"] = 1.5; }),
                 "has the id \"1.5\", expected an integer"));
  CHECK(contains(edited([](Json& j) { j["model"]["vocab"]["ab"] = 255; }),
                 "two tokens have the id 255"));
  CHECK(contains(
      edited([](Json& j) { j["model"]["vocab"]["ab"] = 2'000'000'000; }),
      "token \"ab\" has the id 2000000000, expected less than 2052 (there are 257 tokens)"));
  // K4
  CHECK(contains(
      edited([](Json& j) { j["model"]["merges"].push_back("a zz"); }),
      "merge 1 (\"a\" with \"zz\") needs the token \"zz\", which is not in the vocabulary"));
  CHECK(contains(edited([](Json& j) { j["model"]["merges"].push_back("b a"); }),
                 "needs the token \"ba\""));
  CHECK(contains(edited([](Json& j) { j["model"]["merges"].push_back("ab"); }), "merge 1 is "));
  CHECK(contains(edited([](Json& j) { j["model"]["merges"].push_back("a b c"); }), "merge 1 is "));
  CHECK(contains(edited([](Json& j) { j["model"]["merges"].push_back({"a", 1}); }), "merge 1 is "));
  CHECK(contains(edited([](Json& j) { j["model"]["merges"] = "a b"; }),
                 "merges is string, expected an array"));
  // K5
  CHECK(contains(edited([](Json& j) { j["added_tokens"] = {added("", 300)}; }),
                 "the added token with id 300 is empty"));
  CHECK(contains(
      edited([](Json& j) { j["added_tokens"] = {added(std::string(10 << 20, 'x'), 300)}; }),
      "the added token with id 300 has 10485760 bytes, expected at most 1024"));
  CHECK(contains(edited([](Json& j) {
                   j["added_tokens"] = {added("<s>", 300), added("<s>", 301)};
                 }),
                 "the added token \"<s>\" is listed twice"));
  CHECK(contains(edited([](Json& j) { j["added_tokens"] = {added("<s>", 'a')}; }),
                 "two tokens have the id 97"));
  CHECK(contains(edited([](Json& j) { j["added_tokens"] = {added("ab", 300)}; }),
                 "the added token \"ab\" has the id 300, but 256 in the vocabulary"));
  CHECK(
      contains(edited([](Json& j) { j["added_tokens"] = {added("<s>", -1)}; }), "t.json: \"id\""));
  CHECK(contains(edited([](Json& j) { j["added_tokens"] = {1}; }),
                 "an added token is number, expected an object"));
  CHECK(contains(edited([](Json& j) { j["added_tokens"] = 1; }),
                 "added_tokens is number, expected an array"));
  // K8
  CHECK(contains(edited([](Json& j) {
                   j["model"]["vocab"].erase("Ġ");
                   j["model"]["vocab"].erase("x");
                 }),
                 "no token for the characters \" x\"; a byte-level vocabulary has one for each"));
  // K13
  CHECK(contains(edited([](Json& j) { j["model"]["vocab"][std::string("\0", 1)] = 257; }),
                 "token \"\\x00\" contains a NUL character"));
  CHECK(contains(edited([](Json& j) { j["added_tokens"] = {added(std::string("\0", 1), 300)}; }),
                 "the added token with id 300 contains a NUL character"));
}

TEST_CASE("[models.tokenizer.hostile] a file cut or changed at any byte is refused or can encode") {
  const std::string good = tokenizer_json({{"a", "b"}, {"ab", "c"}}).dump();
  const auto try_to_load = [&](const std::string& bytes) {
    const std::string message = error_of([&] {
      const Tokenizer tokenizer = Tokenizer::from_json(bytes, "t.json");
      for (const TokenId id : tokenizer.encode("abc a")) CHECK(id >= 0);
    });
    CHECK(message.find('\n') == std::string::npos);
    return message;
  };
  CHECK(try_to_load(good).empty());
  for (size_t size = 0; size < good.size(); size += 7)
    CHECK_FALSE(try_to_load(good.substr(0, size)).empty());
  for (size_t at = 0; at < good.size(); at += 3) {
    std::string bytes = good;
    bytes[at] = static_cast<char>(bytes[at] ^ (1 << at % 8));
    try_to_load(bytes);
  }
}

TEST_CASE("[models.tokenizer.hostile] split patterns are bounded") {
  const auto with_pattern = [](const std::string& regex) {
    Json json = tokenizer_json();
    Json plain = kByteLevel;
    plain["use_regex"] = false;
    json["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {split(regex), plain}}};
    return json;
  };
  const auto refused = [&](const std::string& regex) { return load_error(with_pattern(regex)); };
  // K6: what does not compile, or costs too much to
  CHECK(contains(refused(std::string(251, '(') + std::string(251, ')')),
                 "does not compile: parentheses are too deeply nested"));
  CHECK(contains(refused("(?:(?:a{1,1000}){1,1000}){1,1000}"),
                 "does not compile: regular expression is too large"));
  CHECK(contains(refused(std::string(70'000, 'a')),
                 "the split pattern has 70000 bytes, expected at most 65536"));
  CHECK(contains(refused("(a"), "does not compile: missing closing parenthesis"));
  CHECK(contains(refused("a*"), "the split pattern matches the empty text: 'a*'"));
  // what the engines understand differently, or only one of them
  for (const char* part : {R"(\C)", R"(\w)", R"(\b)", R"(\h)", R"(\K)", R"(\1)", R"(\x)",
                           R"(\p{Greek})", R"(\pL)", "^", "$", "."}) {
    CHECK(contains(refused(std::string("a") + part + "b"),
                   fmt::format("'{}' at byte 1 of the split pattern is not supported", part)));
  }
  CHECK(contains(refused("(*UTF)a"), "'(*U' at byte 0"));
  CHECK(contains(refused("(?C1)a"), "'(?C' at byte 0"));
  CHECK(contains(refused("(?>a)"), "'(?>' at byte 0"));
  CHECK(contains(refused("[a[b]]"), "'[b' at byte 2"));
  CHECK(contains(refused("[a&&b]"), "'&&' at byte 2"));
  CHECK(contains(refused("[]a]"), "']' at byte 1"));
  CHECK(contains(refused("a{1,2}+"), "'+' at byte 6"));
  CHECK(contains(refused("a{,2}"), "'{' at byte 1"));
  CHECK(contains(refused("a\\"), "at byte 1"));

  // K6, K7: what takes too long is an error, never "no match"
  const Tokenizer exponential = load(with_pattern("(?:a+)+[!?]"));
  CHECK(contains(
      error_of([&] { exponential.encode(std::string(40, 'a')); }),
      "t.json: the split pattern failed at byte 0 of a text: match limit exceeded: '(?:a+)+[!?]'"));
  const Tokenizer quadratic = load(with_pattern("(?:ab?)+[!?]"));
  CHECK(contains(error_of([&] { quadratic.encode(std::string(30'000, 'a')); }),
                 "splitting the text took too long"));
  CHECK(quadratic.encode("aa!a") == Ids{'a', 'a', '!', 'a'});
}
