#include "models/activations/text_source.h"

#include "core/io/files.h"
#include "tests/test_support.h"

using namespace vyx::models;
using vyx::Json;
using vyx::write_file;
using vyx::test::contains;
using vyx::test::error_of;
using vyx::test::TemporaryFolder;
using Texts = std::vector<std::string>;

namespace {

Texts all(TextSource& source) {
  Texts documents;
  for (std::string document; source.next(document);) documents.push_back(document);
  return documents;
}

Texts read(const std::filesystem::path& file, const TextOptions& options = {}) {
  TextSource source({file}, options);
  return all(source);
}

}  // namespace

TEST_CASE(
    "[models.text_source] a plain file is a document, or split at lines that are a separator") {
  const TemporaryFolder folder;
  write_file(folder / "a.txt", "one\n% not alone\n%\ntwo\ntwo\n%\n \n%\nthree");
  CHECK(read(folder / "a.txt").size() == 1);
  TextSource source({folder / "a.txt"}, {.separator = "%"});
  CHECK(all(source) == Texts{"one\n% not alone\n", "two\ntwo\n", "three"});
  CHECK(source.cursor().counts.documents == 3);
  CHECK(source.cursor().counts.empty == 1);
}

TEST_CASE("[models.text_source] a long plain document is cut behind a line, and nothing is lost") {
  const TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 1000; ++i) text += "line " + std::to_string(i) + "\n";
  write_file(folder / "long.txt", text);
  const Texts documents = read(folder / "long.txt", {.max_document_bytes = 1000});
  CHECK(documents.size() > 5);
  std::string joined;
  for (const auto& document : documents) {
    CHECK(document.size() < 1000 + 20);
    CHECK(document.ends_with('\n'));
    joined += document;
  }
  CHECK(joined == text);
}

TEST_CASE("[models.text_source] JSON Lines give the member that was asked for") {
  const TemporaryFolder folder;
  write_file(folder / "a.jsonl",
             "\xEF\xBB\xBF{\"text\": \"first\\r\\nline\", \"x\": 1}\r\n\n  \n{\"text\": "
             "\"second\\u0000\"}");
  TextSource source({folder / "a.jsonl"});
  CHECK(all(source) == Texts{"first\nline", "second"});
  CHECK(source.cursor().counts == TextCounts{.documents = 2,
                                             .bytes = 16,
                                             .carriage_returns = 1,
                                             .byte_order_marks = 1,
                                             .nul_bytes = 1});
  CHECK(contains(error_of([&] { read(folder / "a.jsonl", {.json_key = "body"}); }), "a.jsonl:1"));
  CHECK(contains(error_of([&] { read(folder / "a.jsonl", {.json_key = "body"}); }), "body"));
}

TEST_CASE("[models.text_source] what is not as it should be is mended and counted") {
  const TemporaryFolder folder;
  write_file(folder / "a.txt", std::string("\xEF\xBB\xBF"
                                           "a\r\nb\0c\rd\xFF\xE2\x82z\r\n\xEF\xBB\xBF",
                                           20));
  TextSource source({folder / "a.txt"});
  CHECK(all(source) == Texts{"a\nbc\rd\xEF\xBF\xBD\xEF\xBF\xBDz\n\xEF\xBB\xBF"});
  CHECK(source.cursor().counts == TextCounts{.documents = 1,
                                             .bytes = 17,
                                             .carriage_returns = 2,
                                             .byte_order_marks = 1,
                                             .nul_bytes = 1,
                                             .malformed = 2});
  CHECK(text_counts_from_json(to_json(source.cursor().counts), "x") == source.cursor().counts);
}

TEST_CASE("[models.text_source] a cursor goes on where it was taken, with the counts") {
  const TemporaryFolder folder;
  write_file(folder / "a.txt", "one\r\n%\n\n%\ntwo\n%\n");
  write_file(folder / "empty.txt", "");
  write_file(folder / "b.jsonl",
             "{\"text\": \"three\"}\n{\"text\": \" \"}\n{\"text\": \"four\"}\n");
  const std::vector<std::filesystem::path> files = {folder / "a.txt", folder / "empty.txt",
                                                    folder / "b.jsonl"};
  TextSource source(files, {.separator = "%"});
  std::vector<TextCursor> cursors{source.cursor()};
  for (std::string document; source.next(document);) cursors.push_back(source.cursor());
  cursors.push_back(source.cursor());
  const Texts expected{"one\n", "two\n", "three", "four"};
  CHECK(cursors.size() == 6);
  for (size_t i = 0; i < cursors.size(); ++i) {
    CAPTURE(i);
    TextSource again(files, {.separator = "%"});
    again.seek(cursors[i]);
    CHECK(again.cursor() == cursors[i]);
    const auto begin = expected.begin() + static_cast<long>(std::min(i, expected.size()));
    CHECK(all(again) == Texts(begin, expected.end()));
    CHECK(again.cursor() == cursors.back());
  }
  TextSource changed({folder / "empty.txt"});
  CHECK(contains(error_of([&] { changed.seek({.file = 0, .document = 1, .counts = {}}); }),
                 "has changed"));
}

TEST_CASE("[models.text_source] bad files are refused by name") {
  const TemporaryFolder folder;
  CHECK(contains(error_of([] { TextSource({}); }), "no text"));
  CHECK(contains(error_of([&] { TextSource({folder.path()}); }), "regular file"));
  CHECK(contains(error_of([] { TextSource({"/dev/zero"}); }), "regular file"));
  CHECK(contains(error_of([&] { TextSource({folder / "nothing"}); }), "nothing"));
  for (const auto& [line, expected] :
       {std::pair<std::string, std::string>{"[1]", "found array, expected JSON Lines"},
        {"{\"text\": 3}", "a string"},
        {"{\"text\": \"\xFF\"}", "UTF-8"},
        {"{\"text\": \"a\"", "bad.jsonl:2"},
        {"{\"text\": \"a\", \"text\": \"b\"}", "text"},
        {"[", "found array, expected JSON Lines"}}) {
    CAPTURE(line);
    write_file(folder / "bad.jsonl", "{\"text\": \"fine\"}\n" + line + "\n");
    const std::string error = error_of([&] { read(folder / "bad.jsonl"); });
    CHECK(contains(error, "bad.jsonl:2"));
    CHECK(contains(error, expected));
  }
}
