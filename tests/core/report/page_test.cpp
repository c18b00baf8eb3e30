#include "core/report/page.h"

#include <cmath>
#include <limits>

#include "tests/test_support.h"

using namespace vyx;
using test::contains;

namespace {

size_t count(std::string_view text, std::string_view part) {
  size_t found = 0;
  for (size_t at = text.find(part); at != std::string_view::npos; at = text.find(part, at + 1))
    ++found;
  return found;
}

}  // namespace

TEST_CASE("[core.page] whatever a text holds, it stays text") {
  CHECK(escape_html("a<b>&\"'c") == "a&lt;b&gt;&amp;&quot;&#39;c");
  CHECK(escape_html("<!--<script>alert(1)</script>") ==
        "&lt;!--&lt;script&gt;alert(1)&lt;/script&gt;");
  CHECK(escape_html("\x1b[31m\n") == "\\x1b[31m\n");
  CHECK(escape_html("a\xe2\x80\xae"
                    "b") == "a\\u202eb");            // right-to-left override
  CHECK(escape_html("\xff|\xc3") == "\\xff|\\xc3");  // malformed
  CHECK(escape_html("Grüße \xf0\x9f\x98\x80") == "Grüße \xf0\x9f\x98\x80");
  CHECK(escape_html("\xc2\x85\xef\xbb\xbf") ==
        "\\u0085\\ufeff");  // a C1 control, a byte order mark
}

TEST_CASE("[core.page] texts are escaped wherever they come in") {
  const std::string evil = "<svg onload=x>\"'";
  Page page(evil);
  page.heading(evil);
  page.paragraph(evil);
  page.table({evil}, {{evil}});
  page.chart({.title = evil,
              .x_label = evil,
              .y_label = evil,
              .curves = {{evil, {1, 2}, {3, 4}}, {evil, {1, 2}, {4, 5}}}});
  const std::string html = page.html();
  CHECK(count(html, "onload") >= 12);
  CHECK(count(html, "<svg onload") == 0);
  CHECK(count(html, "onload=x>") == 0);
}

TEST_CASE("[core.page] the policy allows the page's style and nothing else") {
  const std::string html = Page("t").html();
  CHECK(contains(html, "default-src 'none'; style-src 'sha256-"));
  CHECK_FALSE(contains(html, "unsafe"));
  CHECK_FALSE(contains(html, "<script"));
  CHECK_FALSE(contains(html, "http:"));
  CHECK_FALSE(contains(html, "https:"));
  CHECK_FALSE(contains(html, "style="));  // would need 'unsafe-inline'
}

TEST_CASE(
    "[core.page] a chart draws at most 200 points of a curve, the last among them, and lists their "
    "numbers") {
  Curve curve{"loss", {}, {}};
  for (int i = 0; i <= 12345; ++i) {
    curve.x.push_back(i);
    curve.y.push_back(0.5 * i);
  }
  Page page("t");
  page.chart({.title = "Loss", .x_label = "step", .y_label = "loss", .curves = {curve}});
  const std::string html = page.html();
  CHECK(count(html, "<circle") == 200);
  CHECK(count(html, "<td>loss</td>") == 200);
  CHECK(contains(html, "<td>12345</td><td>6172.5</td>"));
  CHECK(contains(html, "<td>0</td><td>0</td>"));
  CHECK(html.size() < 60'000);
}

TEST_CASE("[core.page] points that are not finite leave gaps, and an empty chart says so") {
  const double nan = std::nan(""), infinity = std::numeric_limits<double>::infinity();
  Page page("t");
  page.chart({.title = "gap", .curves = {{"c", {0, 1, 2, 3, 4}, {1, 2, nan, 3, 4}}}});
  const std::string html = page.html();
  CHECK(count(html, "<circle") == 4);
  const std::string path = html.substr(html.find(" d=\""), 80);
  CHECK(count(path, "M") == 2);

  Page empty("t");
  empty.chart({.title = "none", .curves = {{"c", {0, 1}, {nan, infinity}}}});
  empty.chart(Chart{.title = "no curve"});
  empty.chart({.title = "logarithm", .curves = {{"c", {0, 1}, {0, -1}}}, .logarithmic = true});
  CHECK(count(empty.html(), "no data") == 3);
}

TEST_CASE("[core.page] one point, one value and tiny ranges have an axis") {
  for (const double value : {0.0, 5.0, -3.0, 1e-30, 1e30}) {
    Page page("t");
    page.chart({.title = "one", .curves = {{"c", {1}, {value}}}});
    page.chart({.title = "same", .curves = {{"c", {1, 2}, {value, value}}}});
    CHECK_FALSE(contains(page.html(), "nan"));
    CHECK_FALSE(contains(page.html(), "inf"));
    CHECK(count(page.html(), "class=\"grid\"") >= 4);
    if (value == 0)
      CHECK_FALSE(
          contains(page.html(), ">-"));  // what cannot be negative is not drawn as if it could
  }
}

TEST_CASE("[core.page] a curve with another number of x than of y is refused") {
  Page page("t");
  CHECK(contains(test::error_of([&] {
                   page.chart({.title = "T", .curves = {{"c", {1, 2}, {1}}}});
                 }),
                 "\"c\""));
}

TEST_CASE(
    "[core.page] intervals and heat maps list the numbers that they draw, and escape their names") {
  const double nan = std::nan("");
  Page page("t");
  page.chart(IntervalChart{.title = "effects",
                           .label = "nats",
                           .rows = {{.name = "<a>",
                                     .value = 0.5,
                                     .low = 0.25,
                                     .high = 0.75,
                                     .band_low = -0.125,
                                     .band_high = 0.125},
                                    {.name = "b",
                                     .value = nan,
                                     .low = nan,
                                     .high = nan,
                                     .band_low = nan,
                                     .band_high = nan}}});
  page.chart(
      HeatMap{.title = "cosines", .names = {"<a>", "b"}, .values = {{1, -0.5}, {-0.5, nan}}});
  const std::string html = page.html();
  CHECK(count(html, "<a>") == 0);
  CHECK(count(html, "class=\"dot\"") == 1);
  CHECK(count(html, "class=\"band\"") == 1);
  CHECK(contains(html, "<title>&lt;a&gt;: 0.5 [0.25, 0.75]</title>"));
  CHECK(contains(html, "<td>-0.125</td>"));
  CHECK(count(html, "class=\"cell above\"") == 1);
  CHECK(count(html, "class=\"cell below\"") == 2);
  CHECK_FALSE(contains(html, "style="));
  CHECK(contains(test::error_of([&] {
                   page.chart(HeatMap{.title = "odd", .names = {"a"}, .values = {{1, 2}}});
                 }),
                 "found 2 values, expected 1"));
  CHECK(contains(test::error_of([&] { page.chart(HeatMap{.title = "odd", .names = {"a"}}); }),
                 "found 0 rows"));
}

TEST_CASE(
    "[core.page] more than four curves are named below the drawing, each in a colour or dash of "
    "its own") {
  Chart chart{.title = "many", .x_label = "x", .y_label = "y"};
  for (int i = 0; i < 7; ++i)
    chart.curves.push_back({"curve " + std::to_string(i), {0, 1}, {0.0, 1.0 * i}});
  Page page("t");
  page.chart(chart);
  const std::string html = page.html();
  CHECK(contains(html, "class=\"curve s6\""));
  CHECK(contains(html, "<span class=\"l6\">"));
  CHECK(count(html, "<tspan") == 0);
}
