#include "tests/test_support.h"

#include "core/base/utf8.h"
#include "core/base/utf8_stream.h"

using namespace vyx;

namespace {

const std::string kReplacement = "\uFFFD";

}  // namespace

TEST_CASE("[core.utf8_stream] a character cut at any byte comes out whole and once") {
  const std::string text = "aé€😀z";
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    CAPTURE(cut);
    Utf8Stream stream;
    std::string whole = stream.push(text.substr(0, cut));
    CHECK(valid_utf8(whole) == whole);
    whole += stream.push(text.substr(cut));
    CHECK(whole == text);
    CHECK(stream.finish().empty());
  }
}

TEST_CASE("[core.utf8_stream] text is given on as soon as it is whole") {
  Utf8Stream stream;
  CHECK(stream.push("a\xF0\x9F") == "a");
  CHECK(stream.push("\x98") == "");
  CHECK(stream.push("\x80!") == "😀!");
  CHECK(stream.finish() == "");
}

TEST_CASE("[core.utf8_stream] bytes that can't go on become U+FFFD as soon as that is certain") {
  Utf8Stream stream;
  CHECK(stream.push("\xFF") == kReplacement);
  CHECK(stream.push("\xE2\x82") == "");
  CHECK(stream.push("x") == kReplacement + "x");
  CHECK(stream.push("\xE2") == "");
  CHECK(stream.finish() == kReplacement);
  CHECK(stream.push("y") == "y");
}

TEST_CASE("[core.utf8_stream] ill-formed sequences are replaced by maximal subparts") {
  // Unicode 15, section 3.9, tables 3-8 to 3-11: how many U+FFFD stand for them.
  const auto replaced = [](std::string_view bytes) {
    const std::string text = valid_utf8(bytes);
    size_t count = 0;
    for (size_t at = text.find(kReplacement); at != std::string::npos;
         at = text.find(kReplacement, at + 1))
      ++count;
    return count;
  };
  CHECK(replaced("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41") == 8);  // overlong
  CHECK(replaced("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41") == 8);  // surrogates
  CHECK(replaced("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42") == 7);  // beyond U+10FFFF
  CHECK(replaced("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41") == 4);  // cut short
  CHECK(valid_utf8("\xF4\x8F\xBF\xBF\xEF\xBF\xBF\x7F") == "\xF4\x8F\xBF\xBF\xEF\xBF\xBF\x7F");
}

TEST_CASE("[core.utf8_stream] the well-formed prefix ends before the first ill-formed byte") {
  CHECK(well_formed_prefix("") == 0);
  CHECK(well_formed_prefix("aé\xE2\x82") == 3);
  CHECK(well_formed_prefix("\x80") == 0);
  CHECK(well_formed_prefix("€") == 3);
}
