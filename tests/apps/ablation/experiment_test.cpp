#include "apps/ablation/experiment.h"

#include "tests/test_support.h"

namespace vyx::ablation {
namespace {

using test::contains;
using test::error_of;

const std::string kGood = R"(title = "t"
seeds = ["run"]
[values]
concept = "happy"
[files]
pairs = "p.jsonl"
[grid]
method = ["mean", "pca"]
run = [1, 2, 3]
[steps.make]
driver = "make"
options = {method = "{method}", seed = "{run}", out = "v"}
[results]
size = "make.size"
)";

Experiment parse(const std::string& text, const std::string& variant = "") {
  return parse_experiment(with_variant(parse_toml(text, "e.toml"), variant));
}

std::string replaced(std::string text, const std::string& what, const std::string& with) {
  return text.replace(text.find(what), what.size(), with);
}

TEST_CASE("[ablation.experiment] says what to run, over what, and what to keep of it") {
  const Experiment e = parse(kGood);
  CHECK(e.title == "t");
  CHECK(e.steps.size() == 1);
  CHECK(e.steps[0].driver == "make");
  CHECK(e.results[0].step == "make");
  CHECK(e.results[0].path == "size");
  CHECK(e.seeds == std::vector<std::string>{"run"});
  CHECK(e.threads == 1);
}

TEST_CASE("[ablation.experiment] a bad key names the nearest good one and its line") {
  const std::tuple<const char*, const char*, const char*> cases[] = {
      {"seeds =", "seads =", "e.toml:2: no such key \"seads\"; did you mean seeds?"},
      {"driver =", "drivr =", "e.toml:11: steps.make: no such key \"drivr\"; did you mean driver?"},
      {"[\"run\"]", "[\"rum\"]", "e.toml:2: seeds: \"rum\" is not in the grid; did you mean run?"},
      {"make.size", "mack.size",
       "e.toml:14: results.size: there is no step \"mack\"; did you mean make?"},
      {"\"make.size\"", "\"make\"", "e.toml:14: results.size: found \"make\", expected STEP.PATH"},
      {"run = [1, 2, 3]", "run = []", "e.toml:9: grid.run: expected a list of values"},
      {"run = [1, 2, 3]", "run = [1, 1]", "e.toml:9: grid.run: found 1 twice"},
      {"run = [1, 2, 3]", "run = [{k = 1}]", "e.toml:9: grid.run: found a table without a name"},
      {"concept =", "method =", "e.toml:8: grid.method: found twice"},
      {"concept =", "\"a b\" =", "e.toml:4: values.a b: expected a name"},
      {", seed = \"{run}\"", "", "e.toml:9: grid.run: no step refers to {run}"},
      {"title = \"t\"", "title = 1", "e.toml:1: title: expected text"},
      {"title = \"t\"", "threads = 0",
       "e.toml:1: threads: found 0, expected an integer from 1 to 4096"},
      {"title = \"t\"", "only = [{methd = 'mean'}]", "did you mean method?"},
      {"title = \"t\"", "exclude = [{method = 'none'}]", "\"none\" is not in grid.method"},
      {"[results]\nsize = \"make.size\"\n", "", "results: found no results"},
      {"pairs = \"p.jsonl\"", "pairs = 3", "e.toml:6: files.pairs: expected the path of a file"},
  };
  for (const auto& [what, with, message] : cases) {
    CAPTURE(message);
    const std::string error =
        error_of([&, what = what, with = with] { parse(replaced(kGood, what, with)); });
    CHECK_MESSAGE(contains(error, message), error);
  }
}

TEST_CASE(
    "[ablation.experiment] the grid is a product, the last key fastest, of which only and exclude "
    "choose") {
  const auto points = points_of(parse(kGood));
  CHECK(points.size() == 6);
  CHECK(points[0] == Point{{"method", "mean"}, {"run", 1}});
  CHECK(points[1] == Point{{"method", "mean"}, {"run", 2}});
  CHECK(points[5] == Point{{"method", "pca"}, {"run", 3}});
  CHECK(
      points_of(parse(replaced(kGood, "title = \"t\"", "only = [{method = 'mean'}, {run = [3]}]")))
          .size() == 4);
  CHECK(points_of(
            parse(replaced(kGood, "title = \"t\"", "exclude = [{method = 'mean', run = [1, 2]}]")))
            .size() == 4);
  CHECK(contains(error_of([] {
                   points_of(
                       parse(replaced(kGood, "title = \"t\"", "exclude = [{run = [1, 2, 3]}]")));
                 }),
                 "leave no cell"));
}

TEST_CASE(
    "[ablation.experiment] a variant overrides any part, and an unknown one names the nearest") {
  const std::string text =
      kGood + "[variants.small.grid]\nrun = [1]\n[variants.small.steps.make.options]\nk = 3\n";
  CHECK(points_of(parse(text)).size() == 6);
  const Experiment small = parse(text, "small");
  CHECK(points_of(small).size() == 2);
  CHECK(small.steps[0].options["k"] == 3);
  CHECK(small.steps[0].options["method"] == "{method}");
  CHECK(variants_of(parse_toml(text, "e.toml")) == std::vector<std::string>{"small"});
  CHECK(contains(error_of([&] { parse(text, "smal"); }), "did you mean small?"));
  CHECK(contains(error_of([&] { parse(text + "[variants.bad]\nsteps = 3\n", "bad"); }),
                 "steps: expected a table"));
}

TEST_CASE("[ablation.experiment] a grid too large to mean is refused before it is laid out") {
  std::string values = "[0";
  for (int i = 1; i < 400; ++i) values += ", " + std::to_string(i);
  const std::string text =
      replaced(replaced(kGood, "[1, 2, 3]", values + "]"), "[\"mean\", \"pca\"]", values + "]");
  CHECK(contains(error_of([&] { points_of(parse(text)); }), "more than 100000 cells"));
}

}  // namespace
}  // namespace vyx::ablation
