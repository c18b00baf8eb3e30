#include "apps/ablation/rows.h"

#include <array>
#include <cmath>

#include "apps/ablation/verify.h"
#include "tests/test_support.h"

namespace vyx::ablation {
namespace {

using test::contains;
using test::error_of;

TEST_CASE("[ablation.rows] a path leads through members, indices and chosen elements") {
  const Json json = Json::parse(R"({"rows": [{"c": -4, "site": "l.1:output", "x": 1},)"
                                R"( {"c": 4.5, "site": "l.2:output", "x": 2}], "chosen": null})");
  CHECK(select(json, "rows.1.x") == 2);
  CHECK(select(json, "rows[c=-4].x") == 1);
  CHECK(select(json, "rows[c=4.5].x") == 2);
  CHECK(select(json, "rows[site=l.2:output].x") == 2);
  CHECK(select(json, "chosen").is_null());
  CHECK(contains(error_of([&] { select(json, "rows.7.x"); }),
                 "found no \"7\", expected one of: \"a list of 2\""));
  CHECK(contains(error_of([&] { select(json, "row"); }), "\"chosen, rows\""));
  CHECK(contains(error_of([&] { select(json, "rows[c=9].x"); }), "no element with c = \"9\""));
  CHECK(contains(error_of([&] { select(json, "rows[c=9"); }), "without ]"));
  CHECK(contains(error_of([&] { select(json, "rows[c].x"); }), "expected [MEMBER=VALUE]"));
}

TEST_CASE("[ablation.rows] Student's quantiles agree with those of SciPy") {
  const std::pair<size_t, double> expected[] = {
      {1, 12.706204736}, {2, 4.302652730},  {4, 2.776445105},   {30, 2.042272456},
      {31, 2.039513446}, {60, 2.000297822}, {1000, 1.962339081}};
  for (const auto& [n, t] : expected) CHECK(std::abs(student_t(n) - t) < 1e-4);
}

TEST_CASE("[ablation.rows] the interval is that of a t test; one value has none") {
  const std::array<double, 3> values{1, 2, 6};
  const Interval interval = mean_of(values);
  CHECK(interval.mean == doctest::Approx(3));
  REQUIRE(interval.half_width);
  CHECK(*interval.half_width == doctest::Approx(6.5724).epsilon(
                                    1e-4));  // scipy.stats.t.interval(0.95, 2, 3, sem([1, 2, 6]))
  CHECK(to_text(interval) == "3.0 ± 6.6");
  CHECK_FALSE(mean_of(std::array{1.5}).half_width);
  CHECK(to_text(mean_of(std::array{1.5})) == "1.5");
  CHECK(to_text(mean_of(std::array{2.0, 2.0})) == "2.0000 ± 0.0000");
  CHECK(to_text(std::nullopt) == "-");
}

Plan plan_of_four() {
  Plan plan;
  for (const char* method : {"mean", "pca"})
    for (const int seed : {0, 1})
      plan.cells.push_back({.key = {{"method", method}, {"seed", seed}},
                            .seeds = {"seed"},
                            .steps = {"s"},
                            .results = {{"x", "s", "x"}, {"text", "s", "t"}}});
  return plan;
}

TEST_CASE(
    "[ablation.rows] cells that differ in their seeds are averaged, and failures are counted") {
  const Plan plan = plan_of_four();
  std::vector<Row> rows;
  for (size_t i = 0; i < 4; ++i)
    rows.push_back(row_of(plan, i, {{"s", Json{{"x", i}, {"t", "a"}}}}));
  rows[3].results.clear();
  rows[3].error = "vyx-s: no";
  const auto groups = group(plan, rows);
  REQUIRE(groups.size() == 2);
  CHECK(groups[0].results.at("x").mean == 0.5);
  CHECK(groups[0].results.at("x").count == 2);
  CHECK(groups[1].results.at("x").mean == 2);
  CHECK(groups[1].failed == 1);
  CHECK_FALSE(groups[0].results.contains("text"));
}

TEST_CASE(
    "[ablation.rows] rows are lines of JSON and of CSV; a path that leads nowhere is the row's "
    "error") {
  const Plan plan = plan_of_four();
  const std::vector<Row> rows{
      row_of(plan, 0, {{"s", Json{{"x", 0.1}, {"t", "say \"hi\", twice"}}}}),
      row_of(plan, 1, {{"s", Json{{"y", 1}}}})};
  CHECK(to_jsonl(rows) ==
        "{\"cell\":0,\"grid\":{\"method\":\"mean\",\"seed\":0},\"results\":{\"x\":0.1,\"text\":"
        "\"say \\\"hi\\\", twice\"}}\n"
        "{\"cell\":1,\"grid\":{\"method\":\"mean\",\"seed\":1},\"error\":\"x: found no \\\"x\\\", "
        "expected one of: \\\"y\\\"\"}\n");
  CHECK(to_csv(rows) ==
        "cell,method,seed,x,text,error\r\n0,mean,0,0.1,\"say \"\"hi\"\", twice\",\r\n"
        "1,mean,1,,,\"x: found no \"\"x\"\", expected one of: \"\"y\"\"\"\r\n");
  CHECK(contains(row_of(plan, 0, {{"s", Json{{"x", {1}}, {"t", "a"}}}}).error,
                 "expected a number or text"));
}

TEST_CASE("[ablation.verify] the first key that differs is named, with both values") {
  const std::string a = R"({"cell":0,"grid":{"m":"x"},"results":{"s":1}})"
                        "\n"
                        R"({"cell":1,"grid":{"m":"y"},"results":{"s":2,"t":3}})"
                        "\n";
  std::string b = a;
  CHECK_FALSE(first_difference(a, b, "r"));
  b.replace(b.find("\"s\":2"), 5, "\"s\":4");
  const auto difference = first_difference(a, b, "r");
  REQUIRE(difference);
  CHECK(difference->cell == 1);
  CHECK(difference->key == "m=y");
  CHECK(difference->what == "results.s");
  CHECK(difference->before == "2");
  CHECK(difference->after == "4");
  CHECK(first_difference(a, a.substr(0, a.find('\n') + 1), "r")->what == "rows");
  CHECK(first_difference(R"({"cell":0,"grid":{},"results":{}})",
                         R"({"cell":0,"grid":{},"error":"e"})", "r")
            ->what == "error");
  CHECK(contains(error_of([&] { first_difference("[]\n", a, "r"); }), "r:1: found no row"));
  CHECK(contains(error_of([&] { first_difference("{\n", a, "r"); }), "r:1"));
}

}  // namespace
}  // namespace vyx::ablation
