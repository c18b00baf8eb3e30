#include "tests/test_support.h"

#include "core/base/display_width.h"
#include "core/base/text.h"
#include "core/base/utf8.h"

using vyx::display_width;
using vyx::is_utf8;
using vyx::printable;
using vyx::quote;

TEST_CASE("[core.text] UTF-8 by the letter of RFC 3629") {
  for (const char* good : {"", "a", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf",
                           "\xee\x80\x80", "\xef\xbf\xbf", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"})
    CHECK_MESSAGE(is_utf8(good), quote(good));
  for (const char* bad :
       {"\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xc2", "\xc2\x41", "\xe0\x9f\xbf", "\xed\xa0\x80",
        "\xe2\x82", "\xe2\x82\x41", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80",
        "\xff", "a\xf0\x9f\x98"})
    CHECK_FALSE_MESSAGE(is_utf8(bad), quote(bad));
}

TEST_CASE("[core.text] a character is one column wide, however many bytes it has") {
  CHECK(display_width("") == 0);
  CHECK(display_width("FILE…") == 5);
  CHECK(display_width("λ ≤ −1") == 6);
  CHECK(display_width("\xff") == 1);  // what a terminal shows in place of malformed bytes
}

TEST_CASE("[core.text] a quotation is one printable line of bounded length") {
  CHECK(quote("llama.block_count") == "\"llama.block_count\"");
  CHECK(quote("café 😀") == "\"café 😀\"");
  CHECK(quote("a\"b\\c\n\x1b[0m\x7f") == "\"a\\\"b\\\\c\\x0a\\x1b[0m\\x7f\"");
  CHECK(quote("\xc2\x9b") == "\"\\xc2\\x9b\"");  // a terminal would take it for an escape sequence
  CHECK(quote("\xff\xc3") == "\"\\xff\\xc3\"");
  CHECK(quote(std::string(1000, 'x')).size() < 100);
  CHECK(is_utf8(quote("x" + std::string(200, '\xff'))));
  std::string umlauts;
  for (int i = 0; i < 200; ++i) umlauts += "ü";
  CHECK(is_utf8(quote(umlauts)));
}

TEST_CASE("[core.text] what is printed neither runs a terminal's commands nor turns text around") {
  CHECK(printable("a\tb\nλ 😀") == "a\tb\nλ 😀");
  CHECK(printable("\x1b[2J\r\b\x7f\x9b") == "\\u001b[2J\\u000d\\u0008\\u007f\\x9b");
  CHECK(printable("\xc2\x9b") == "\\u009b");  // what ESC [ is in one character
  for (const char* turn : {"\u202a", "\u202e", "\u2066", "\u2069", "\u2028"})
    CHECK(printable(turn).starts_with("\\u20"));
  CHECK(printable("\u2030\u2065\u206a\u200d") == "\u2030\u2065\u206a\u200d");
  CHECK(printable(std::string("\0", 1)) == "\\u0000");
  CHECK(quote("\u202e") == "\"\\xe2\\x80\\xae\"");
}
