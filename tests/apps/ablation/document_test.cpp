#include "apps/ablation/document.h"

#include "core/io/files.h"
#include "tests/test_support.h"

namespace vyx::ablation {
namespace {

using test::contains;
using test::error_of;

Document parse(std::string_view text) {
  return parse_toml(text, "e.toml");
}

TEST_CASE("[ablation.document] keys keep the order that they were written in, and their lines") {
  const Document document = parse("[grid]\nz = [1, 2]\na = [true]\n\n[steps.s]\ndriver = 'x'\n");
  CHECK(document.value.dump() == R"({"grid":{"z":[1,2],"a":[true]},"steps":{"s":{"driver":"x"}}})");
  CHECK(document.place("/grid/a") == "e.toml:3");
  CHECK(document.place("/steps/s/driver") == "e.toml:6");
  CHECK(document.place("/steps/s/driver/not/there") == "e.toml:6");
  CHECK(document.place("/nowhere") == "e.toml");
}

TEST_CASE("[ablation.document] what is no experiment is refused in one line that names the place") {
  const std::pair<std::string, const char*> cases[] = {
      {"a = 1\na = 2\n", "e.toml:2: "},
      {"a = \n", "e.toml:1: "},
      {"x = 1\na = nan\n", "e.toml:2: found nan"},
      {"a = 1979-05-27\n", "e.toml:1: found a date"},
      {"a = \"unclosed\nb = 1\n", "e.toml:1: "},
      {"a = \"\xff\"\n", "e.toml:"},
      {std::string("a = \"\0\"\n", 8), "e.toml:"},
      {"a = 99999999999999999999\n", "e.toml:1: "},
      {"[a\n", "e.toml:1: "},
  };
  for (const auto& [text, start] : cases) {
    CAPTURE(text);
    const std::string error = error_of([&] { parse(text); });
    CHECK(error.starts_with(start));
    CHECK_FALSE(contains(error, "\n"));
  }
}

TEST_CASE("[ablation.document] depth and size are bounded before the parser sees them") {
  std::string dotted = "a", brackets = "a = ", header = "[a", lines = "a = 1\n";
  for (int i = 0; i < 200'000; ++i) dotted += ".a";
  for (int i = 0; i < 200'000; ++i) header += ".a";
  for (int i = 0; i < 100'000; ++i) brackets += "[\n";
  for (int i = 0; i < 200'000; ++i) lines += "# more\n";
  CHECK(error_of([&] { parse(dotted + " = 1\n"); }) ==
        "e.toml:1: found keys nested deeper than 16");
  CHECK(error_of([&] { parse(header + "]\n"); }) == "e.toml:1: found keys nested deeper than 16");
  CHECK(contains(error_of([&] { parse(brackets); }), "found values nested deeper than 32"));
  CHECK(contains(error_of([&] { parse(lines); }), "expected at most 1048576"));
  // Neither strings, comments nor numbers are keys.
  CHECK(error_of([&] {
          parse(
              "a = 'x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x' # "
              "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\n");
        }).empty());
  CHECK(error_of([&] {
          parse(
              "a = [1.5, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5, "
              "1.5, 1.5, 1.5]\n");
        }).empty());
  CHECK(error_of([&] {
          parse("a = \"\"\"\n[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\n\\\"\"\"\"\nb = 1\n");
        }).empty());
}

TEST_CASE(
    "[ablation.document] includes are merged, the including file wins, and files are relative to "
    "where they stand") {
  const test::TemporaryFolder folder;
  std::filesystem::create_directories(folder / "sub");
  write_file(folder / "sub/common.toml",
             "threads = 4\n[files]\nmodel = '../m.pt'\n[values]\na = 1\nb = "
             "2\n[variants.v.files]\nmodel = 'v.pt'\n");
  write_file(folder / "e.toml", "include = ['sub/common.toml']\n[values]\nb = 3\n");
  const Document document = read_document(folder / "e.toml");
  CHECK(document.value["values"].dump() == R"({"a":1,"b":3})");
  CHECK(document.value["files"]["model"] == (folder / "m.pt").string());
  CHECK(document.value["variants"]["v"]["files"]["model"] == (folder / "sub/v.pt").string());
  CHECK_FALSE(document.value.contains("include"));
  CHECK(document.place("/values/b") == (folder / "e.toml").string() + ":3");
  CHECK(document.place("/threads") == (folder / "sub/common.toml").string() + ":1");
}

TEST_CASE("[ablation.document] files that include each other are refused") {
  const test::TemporaryFolder folder;
  write_file(folder / "a.toml", "include = ['b.toml']\n");
  write_file(folder / "b.toml", "include = ['a.toml']\n");
  CHECK(contains(error_of([&] { read_document(folder / "a.toml"); }), "a.toml: includes itself"));
  write_file(folder / "c.toml", "include = 'a.toml'\n");
  CHECK(contains(error_of([&] { read_document(folder / "c.toml"); }),
                 "c.toml:1: include: expected a list of files"));
  write_file(folder / "d.toml", "include = ['none.toml']\n");
  CHECK(contains(error_of([&] { read_document(folder / "d.toml"); }), "none.toml"));
}

TEST_CASE(
    "[ablation.document] --set finds names where they are, takes TOML or text, and makes files "
    "absolute") {
  Document document = parse(
      "[files]\nmodel = 'm'\n[values]\nn = 1\n[grid]\nlayer = [1, 2]\n[steps.s.options]\nk = 1\n");
  set_value(document, "n=2");
  set_value(document, "layer=7");
  set_value(document, "steps.s.options.max-kl=0.5");
  set_value(document, "steps.s.options.word=not toml = at all");
  set_value(document, "model=other.pt");
  CHECK(document.value["values"]["n"] == 2);
  CHECK(document.value["grid"]["layer"].dump() == "[7]");
  CHECK(document.value["steps"]["s"]["options"].dump() ==
        R"({"k":1,"max-kl":0.5,"word":"not toml = at all"})");
  CHECK(document.value["files"]["model"] ==
        (std::filesystem::current_path() / "other.pt").string());
  CHECK(document.place("/values/n") == "--set n");
  CHECK(contains(error_of([&] { set_value(document, "modell=x"); }), "did you mean model?"));
  CHECK(contains(error_of([&] { set_value(document, "model"); }), "expected KEY=VALUE"));
}

}  // namespace
}  // namespace vyx::ablation
