#include "core/report/csv.h"

#include <string>

#include "tests/test_support.h"

using vyx::csv_field;
using vyx::csv_record;

TEST_CASE("[core.csv] a field is quoted where a reader would split it, and only there") {
  CHECK(csv_field("") == "");
  CHECK(csv_field("best k latents") == "best k latents");
  CHECK(csv_field(" 'x'; \t") == " 'x'; \t");
  CHECK(csv_field("a,b") == "\"a,b\"");
  CHECK(csv_field("say \"so\"") == "\"say \"\"so\"\"\"");
  CHECK(csv_field("\"") == "\"\"\"\"");
  CHECK(csv_field("two\nlines") == "\"two\nlines\"");
  CHECK(csv_field("a\rb") == "\"a\rb\"");
}

TEST_CASE("[core.csv] a record has a comma between fields and its line end behind them") {
  CHECK(csv_record({"cell", "a,b", ""}) == "cell,\"a,b\",\r\n");
  CHECK(csv_record({"one"}) == "one\r\n");
  CHECK(csv_record({"", ""}, "\n") == ",\n");
}
