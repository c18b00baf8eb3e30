#include "core/io/records.h"

#include "core/io/files.h"
#include "tests/test_support.h"

using vyx::Json;
using vyx::test::contains;
using vyx::test::error_of;
using vyx::test::TemporaryFolder;

namespace {

struct Record {
  std::string positive, negative, place;
};

std::vector<Record> read(std::string_view text, const char* name = "pairs.jsonl") {
  const TemporaryFolder folder;
  vyx::write_file(folder / name, text);
  std::vector<Record> records;
  vyx::for_each_record(folder / name, {"positive", "negative"},
                       [&](const Json& record, const std::string& where) {
                         records.push_back({vyx::json_string(record, "positive", where),
                                            vyx::json_string(record, "negative", where),
                                            where.substr(folder.path().string().size() + 1)});
                       });
  return records;
}

std::string refusal(std::string_view text) {
  return error_of([&] { read(text); });
}

}  // namespace

TEST_CASE("[core.records] JSON Lines, an array, CSV and TSV hold the same records") {
  const std::string lines =
      "\n{\"positive\": \"a, \\\"b\\\"\\nc\", \"negative\": \"d\"}\r\n{\"positive\": \"é\", "
      "\"negative\": \"f\", \"x\": 1}\n";
  const std::string array =
      "\xEF\xBB\xBF[\n{\"positive\": \"a, \\\"b\\\"\\nc\",\n \"negative\": \"d\"},\n{\"positive\": "
      "\"é\", \"negative\": \"f\"}]\n";
  const std::string csv =
      "\xEF\xBB\xBFid,positive,negative\r\n1,\"a, \"\"b\"\"\r\nc\",d\r\n\r\n2,é,\"f\"";
  const std::string tsv = "negative\tpositive\nd\t\"a, \"\"b\"\"\nc\"\nf\té\n";
  for (const auto& [text, second] : {std::pair{lines, ":3"}, std::pair{array, ", item 2"},
                                     std::pair{csv, ":5"}, std::pair{tsv, ":4"}}) {
    CAPTURE(text);
    const auto records = read(text);
    REQUIRE(records.size() == 2);
    CHECK(records[0].positive == "a, \"b\"\nc");
    CHECK(records[0].negative == "d");
    CHECK(records[1].positive == "é");
    CHECK(records[1].negative == "f");
    CHECK(records[1].place == "pairs.jsonl" + std::string(second));
  }
  CHECK(read("").empty());
  CHECK(read("[]").empty());
}

TEST_CASE("[core.records] what is none of them says what was expected, and where") {
  CHECK(
      contains(refusal("not JSON"), "expected JSON Lines, one {\"positive\": …, \"negative\": …}"));
  CHECK(contains(refusal("one,two\n1,2\n"), "first line names positive, negative"));
  CHECK(contains(refusal("{\n \"positive\": \"a\",\n \"negative\": \"b\"\n}"), "pairs.jsonl:1"));
  CHECK(contains(refusal("{\n \"positive\": \"a\",\n \"negative\": \"b\"\n}"), "JSON Lines"));
  CHECK(contains(refusal("{\"positive\": \"a\", \"negative\": \"b\"}\n[1]\n"),
                 "pairs.jsonl:2: found array"));
  CHECK(
      contains(refusal("[{\"positive\": \"a\", \"negative\": \"b\"}, 3]"), "item 2: found number"));
  CHECK(
      contains(refusal("positive,negative\na,b,c\n"), "pairs.jsonl:2: found 3 fields, expected 2"));
  CHECK(contains(refusal("positive,negative\n\"a,b\n"), "pairs.jsonl:2: found a quote"));
  CHECK(contains(refusal("positive,negative\n\"a\"x,b\n"), "pairs.jsonl:2: found \"x\" behind"));
  CHECK(contains(refusal("positive,negative,positive\na,b,c\n"), "\"positive\" twice"));
  CHECK(contains(refusal("positive,negative\ncaf\xE9,b\n"), "pairs.jsonl:2: found bytes"));
}
