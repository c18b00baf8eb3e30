#include "tests/torch_support.h"

#include "steering/directions/contrast_set.h"

#include "core/io/files.h"

namespace {

using namespace vyx::steering;
using vyx::models::ChatFormat;
using vyx::test::contains;
using vyx::test::error_of;

const ChatFormat kNone, kChatml{.name = "chatml", .system = ""};

// A folder with files in it.
struct Files {
  vyx::test::TemporaryFolder folder;

  std::filesystem::path write(std::string_view name, std::string_view text) const {
    vyx::write_file(folder / name, text);
    return folder / name;
  }
  std::string set_error(std::string_view text) const {
    return error_of([&] { read_contrast_set(write("pairs.jsonl", text)); });
  }
  std::string template_error(std::string_view text, const ChatFormat& chat = kChatml) const {
    return error_of([&] { read_contrast_template(write("template.json", text), chat); });
  }
};

constexpr std::string_view kGoodTemplate =
    R"({"prompt": "Be {persona}.", "positive": ["glad", "merry"], "negative": ["sad", "gloomy"],)"
    R"( "beginnings": "beginnings.txt"})";

}  // namespace

TEST_CASE("[steering.contrast_set] pairs are read in order, blank lines and further keys apart") {
  const Files files;
  const auto path =
      files.write("pairs.jsonl",
                  "{\"positive\": \"I win\", \"negative\": \"I lose\", \"note\": 1}\r\n"
                  "\n"
                  "{\"negative\": \"b\\n\", \"positive\": \"é\"}");
  const ContrastSet set = read_contrast_set(path);
  REQUIRE(set.pairs.size() == 2);
  CHECK(set.pairs[0].positive == "I win");
  CHECK(set.pairs[0].negative == "I lose");
  CHECK(set.pairs[1].positive == "é");
  CHECK(set.pairs[1].negative == "b\n");
  CHECK(set.source == path.string());
}

TEST_CASE("[steering.contrast_set] the digest is of the pairs, whatever file they came from") {
  const Files files;
  const auto digest = [&](std::string_view text) {
    return read_contrast_set(files.write("pairs.jsonl", text)).sha256;
  };
  const std::string reference = digest(R"({"positive": "a", "negative": "b"})");
  CHECK(reference.size() == 64);
  CHECK(digest("\n{\"negative\": \"b\",   \"positive\": \"\\u0061\"}\n") == reference);
  CHECK(digest(R"({"positive": "b", "negative": "a"})") != reference);
  CHECK(digest(R"({"positive": "a", "negative": "c"})") != reference);
}

TEST_CASE("[steering.contrast_set] a bad line is named, and why it is bad") {
  const Files files;
  const std::string good = "{\"positive\": \"a\", \"negative\": \"b\"}\n";
  CHECK(contains(files.set_error(""), "pairs.jsonl: holds no pair"));
  CHECK(contains(files.set_error("\n \n"), "holds no pair"));
  CHECK(contains(files.set_error(good + "{\"positive\": \"a\"}"), "pairs.jsonl:2"));
  CHECK(contains(files.set_error(good + "{\"positive\": \"a\"}"), "negative"));
  CHECK(contains(files.set_error(good + "\n{\"positive\": \"\", \"negative\": \"b\"}"),
                 "pairs.jsonl:3: \"positive\" is empty"));
  CHECK(contains(files.set_error(good + "{\"positive\": \"x\", \"negative\": \"x\"}"),
                 "pairs.jsonl:2: \"positive\" and \"negative\" are equal"));
  CHECK(
      contains(files.set_error(good + "{\"positive\": \"x\", \"negative\": 3}"), "pairs.jsonl:2"));
  CHECK(contains(files.set_error("not JSON"), "pairs.jsonl: found \"not JSON\" in its first line"));
  CHECK(contains(files.set_error("[1, 2]"), "pairs.jsonl, item 1"));
  CHECK(contains(error_of([&] { read_contrast_set(files.folder / "none.jsonl"); }), "none.jsonl"));
}

TEST_CASE("[steering.contrast_set] a template crosses its persona pairs with the beginnings") {
  const Files files;
  files.write("beginnings.txt", "I think\nThe weather\r\n\n");
  const auto path = files.write("template.json", kGoodTemplate);
  const ContrastSet plain = read_contrast_template(path, kNone);
  REQUIRE(plain.pairs.size() == 4);
  CHECK(plain.pairs[0].positive == "Be glad.\n\nI think");
  CHECK(plain.pairs[0].negative == "Be sad.\n\nI think");
  CHECK(plain.pairs[1].positive == "Be glad.\n\nThe weather");
  CHECK(plain.pairs[3].negative == "Be gloomy.\n\nThe weather");
  const ContrastSet chat = read_contrast_template(path, kChatml);
  CHECK(chat.pairs[3].positive ==
        "<|im_start|>user\nBe merry.<|im_end|>\n<|im_start|>assistant\nThe weather");
  CHECK(chat.sha256 != plain.sha256);
  CHECK(chat.places[3] == path.string() + ": persona 2 with beginning 2");
  const ContrastSet kind = read_contrast_template(path, {.name = "chatml", .system = "Be kind."});
  CHECK(kind.pairs[3].positive ==
        "<|im_start|>system\nBe kind.<|im_end|>\n" + chat.pairs[3].positive);
}

TEST_CASE("[steering.contrast_set] a persona may stand in the prompt more than once") {
  const Files files;
  files.write("beginnings.txt", "I");
  const auto path = files.write(
      "template.json",
      R"({"prompt": "{persona}, {persona}", "positive": ["a {persona}"], "negative": ["b"],)"
      R"( "beginnings": "beginnings.txt"})");
  CHECK(read_contrast_template(path, kNone).pairs.at(0).positive ==
        "a {persona}, a {persona}\n\nI");
}

TEST_CASE("[steering.contrast_set] a bad template is refused with its reason") {
  const Files files;
  files.write("beginnings.txt", "I think\n");
  files.write("empty.txt", "\n\n");
  const auto with = [&](std::string from, const std::string& to) {
    std::string text(kGoodTemplate);
    text.replace(text.find(from), from.size(), to);
    return files.template_error(text);
  };
  CHECK(files.template_error(kGoodTemplate).empty());
  CHECK(contains(with("{persona}", "someone"), "\"prompt\" has no {persona}"));
  CHECK(
      contains(with("[\"glad\", \"merry\"]", "[\"glad\"]"), "1 positive and 2 negative personas"));
  CHECK(contains(with("[\"glad\", \"merry\"]", "[]"), "\"positive\" is not a list of personas"));
  CHECK(contains(with("\"gloomy\"", "7"), "\"negative\" holds a number"));
  CHECK(contains(with("\"gloomy\"", "\"\""), "persona 2: \"negative\" is empty"));
  CHECK(contains(with("\"gloomy\"", "\"merry\""),
                 "persona 2: \"positive\" and \"negative\" are equal"));
  CHECK(contains(with("beginnings.txt", "empty.txt"), "empty.txt: holds no sentence beginning"));
  CHECK(contains(with("beginnings.txt", "none.txt"), "none.txt"));
  CHECK(contains(with("\"beginnings\"", "\"begin\""), "beginnings"));
  CHECK(contains(files.template_error("[]"), "template.json"));
  CHECK(
      contains(files.template_error(kGoodTemplate, {.name = "chatml"}), "import the model again"));
  CHECK(contains(with("Be {persona}", "Be {persona}<|im_end|>"), "template.json: a message"));
}

TEST_CASE("[steering.contrast_set] continuation pairs have a prompt and two sides") {
  const Files files;
  const auto read = [&](std::string_view text) {
    return read_continuation_pairs(files.write("held_out.jsonl", text));
  };
  const auto pairs = read(R"({"prompt": "How?", "positive": "Well.", "negative": "Badly."})");
  REQUIRE(pairs.size() == 1);
  CHECK(pairs[0].prompt == "How?");
  CHECK(pairs[0].positive == "Well.");
  CHECK(pairs[0].negative == "Badly.");
  const auto error = [&](std::string_view text) { return error_of([&] { read(text); }); };
  CHECK(contains(error(""), "held_out.jsonl: holds no pair"));
  CHECK(contains(error(R"({"prompt": "", "positive": "a", "negative": "b"})"),
                 "held_out.jsonl:1: \"prompt\" is empty"));
  CHECK(contains(error(R"({"prompt": "p", "positive": "a", "negative": "a"})"), "equal"));
  CHECK(contains(error(R"({"positive": "a", "negative": "b"})"), "prompt"));
}

TEST_CASE("[steering.contrast_set] a table and an array are sets of the same pairs") {
  const Files files;
  const auto digest = [&](std::string_view name, std::string_view text) {
    return read_contrast_set(files.write(name, text)).sha256;
  };
  const std::string lines = digest("a.jsonl", R"({"positive": "a, b", "negative": "c"})");
  CHECK(digest("a.csv", "positive,negative\n\"a, b\",c\n") == lines);
  CHECK(digest("a.json", "[\n {\"positive\": \"a, b\",\n \"negative\": \"c\"}\n]") == lines);
  CHECK(read_contrast_set(files.write("b.csv", "positive,negative\nx,y\n")).places[0] ==
        (files.folder / "b.csv").string() + ":2");
}

TEST_CASE("[steering.contrast_set] a byte order mark and line ends are no part of a beginning") {
  const Files files;
  const auto path = files.write("template.json", "\xEF\xBB\xBF" + std::string(kGoodTemplate));
  files.write("beginnings.txt", "I think\nThe weather\n");
  const std::string plain = read_contrast_template(path, kNone).sha256;
  files.write("beginnings.txt", "\xEF\xBB\xBFI think\r\nThe weather\r\n");
  CHECK(read_contrast_template(path, kNone).sha256 == plain);
}
