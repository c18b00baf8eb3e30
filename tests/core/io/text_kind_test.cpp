#include "core/io/text_kind.h"

#include "core/io/files.h"
#include "core/io/line_reader.h"
#include "tests/test_support.h"

using vyx::write_file;
using vyx::test::contains;
using vyx::test::error_of;
using vyx::test::TemporaryFolder;
using namespace std::literals;

namespace {

std::string refusal(std::string_view bytes, const char* name = "given.txt") {
  const TemporaryFolder folder;
  write_file(folder / name, bytes);
  return error_of([&] { vyx::read_prose(folder / name); });
}

}  // namespace

TEST_CASE("[core.text_kind] files that are no text are named, with what to do") {
  for (const auto& [bytes, kind] :
       {std::pair{"\xFF\xFEh\0i\0"sv, "UTF-16"}, std::pair{"\xFE\xFF\0h\0i"sv, "UTF-16"},
        std::pair{"h\0e\0l\0l\0o\0 \0t\0h\0e\0r\0e\0"sv, "UTF-16"},
        std::pair{"\xFF\xFE\0\0h\0\0\0"sv, "UTF-32"}, std::pair{"PAR1\x15\x02"sv, "Parquet"},
        std::pair{"%PDF-1.7\n"sv, "PDF"}, std::pair{"PK\x03\x04"sv, "zip"},
        std::pair{"BZh91AY"sv, "bzip2"}, std::pair{"\x28\xB5\x2F\xFDx"sv, "zstd"},
        std::pair{"GGUF\x03\0\0\0"sv, "GGUF"}}) {
    const std::string error = refusal(bytes);
    CAPTURE(error);
    CHECK(contains(error, "given.txt: found "));
    CHECK(contains(error, kind));
    CHECK(contains(error, "; "));
  }
  std::string random;
  for (int i = 0; i < 256; ++i) random += static_cast<char>(i * 89 + 7);
  CHECK(contains(refusal(random), "no text"));
}

TEST_CASE("[core.text_kind] JSON and tables are no prose, a bracket alone is") {
  CHECK(contains(refusal("[\n {\"text\": \"a\"}]"), "JSON array"));
  CHECK(contains(refusal("[\"a\", \"b\"]"), "JSON array"));
  CHECK(contains(refusal("\xEF\xBB\xBF{\n \"text\": 1}"), ".jsonl"));
  CHECK(contains(refusal("text\nhello\n", "a.CSV"), "table"));
  CHECK(refusal("[Music] We begin.").empty());
  CHECK(refusal("{no JSON}").empty());
  CHECK(refusal("").empty());
  CHECK(refusal("Größe, naïve, 汉字 \xF0\x9F\x98\x80 and a \x1b[0m colour\n").empty());
}

TEST_CASE("[core.text_kind] prose has no byte order mark and one kind of line end") {
  const TemporaryFolder folder;
  write_file(folder / "a.txt", "\xEF\xBB\xBFone\r\ntwo\rtwo\n\r\n\xEF\xBB\xBFthree");
  CHECK(vyx::read_prose(folder / "a.txt") == "one\ntwo\rtwo\n\n\xEF\xBB\xBFthree");
  CHECK(contains(refusal("fine\nna\xEFve\n"), "given.txt:2: found bytes that are not UTF-8"));
}

TEST_CASE("[core.line_reader] the byte order mark is no part of line 1, and lines are UTF-8") {
  const TemporaryFolder folder;
  write_file(folder / "mark", "\xEF\xBB\xBFI am\r\n\xEF\xBB\xBFso\n");
  std::vector<std::string> lines;
  const auto take = [&](std::string_view line, const std::string&) { lines.emplace_back(line); };
  vyx::for_each_line(folder / "mark", take);
  CHECK(lines == std::vector<std::string>{"I am", "\xEF\xBB\xBFso"});
  vyx::LineReader reader(folder / "mark");
  CHECK_FALSE(reader.had_mark());
  for (std::string_view line; reader.next(line);) CHECK(reader.had_mark());
  write_file(folder / "latin1", "fine\ncaf\xE9\n");
  CHECK(contains(error_of([&] { vyx::for_each_line(folder / "latin1", take); }),
                 "latin1:2: found bytes that are not UTF-8"));
  write_file(folder / "wide", "\xFF\xFEh\0i\0"sv);
  CHECK(contains(error_of([&] { vyx::LineReader(folder / "wide"); }), "UTF-16"));
}
