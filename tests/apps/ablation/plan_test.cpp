#include "apps/ablation/plan.h"

#include <algorithm>

#include "core/io/files.h"
#include "tests/apps/ablation/fake_drivers.h"
#include "tests/test_support.h"

namespace vyx::ablation {
namespace {

using test::contains;
using test::error_of;

const std::string kTwoSteps = R"([files]
text = "TEXT"
[grid]
method = ["mean", "pca"]
c = [1, 2, -3]
[steps.use]
driver = "use"
options = {vector = "{steps.make.out}=1", coefficients = ["{c}"]}
[steps.make]
driver = "make"
options = {method = "{method}", text = "{text}", out = "v.gguf"}
[results]
shift = "use.rows[c={c}].shift"
)";

class Fixture {
 public:
  Fixture() { write_file(folder / "text.txt", "words"); }

  Plan plan(std::string text = kTwoSteps, const std::filesystem::path& run = "/runs/x") {
    const auto at = text.find("TEXT");
    if (at != std::string::npos) text.replace(at, 4, (folder / "text.txt").string());
    return make_plan({{"", parse_experiment(parse_toml(text, "e.toml"))}}, drivers, run);
  }
  std::string error(const std::string& what, const std::string& with) {
    std::string text = kTwoSteps;
    return error_of([&] { plan(text.replace(text.find(what), what.size(), with)); });
  }

  const test::TemporaryFolder folder;
  test::FakeDrivers drivers;
};

TEST_CASE_FIXTURE(Fixture, "[ablation.plan] cells share the steps that are the same for them") {
  const Plan p = plan();
  CHECK(p.cells.size() == 6);
  CHECK(p.steps.size() == 2 + 6);
  const auto make_of = [&](size_t cell) { return p.cells[cell].steps[1]; };
  CHECK(make_of(0) == make_of(2));
  CHECK(make_of(0) != make_of(3));
  const PlannedStep& use = p.steps.at(p.cells[2].steps[0]);
  CHECK(use.needs == std::vector<std::string>{make_of(2)});
  CHECK(use.arguments ==
        std::vector<std::string>{"--coefficients=-3", "--device=cpu", "--seed=0", "--threads=1",
                                 "--vector=/runs/x/steps/" + make_of(2) + "/files/v.gguf=1"});
  CHECK(p.cells[2].results[0].path == "rows[c=-3].shift");
  const auto position = [&](const std::string& id) {
    return std::find(p.order.begin(), p.order.end(), id) - p.order.begin();
  };
  for (const std::string& id : p.order)
    for (const std::string& need : p.steps.at(id).needs) CHECK(position(need) < position(id));
}

TEST_CASE_FIXTURE(
    Fixture,
    "[ablation.plan] a step's identity is what it does, not where, and its inputs' bytes count") {
  const Plan before = plan(), elsewhere = plan(kTwoSteps, "/another/folder");
  CHECK(before.order == elsewhere.order);
  std::filesystem::rename(folder / "text.txt", folder / "moved.txt");
  std::string moved = kTwoSteps;
  moved.replace(moved.find("TEXT"), 4, (folder / "moved.txt").string());
  CHECK(plan(moved).order == before.order);
  write_file(folder / "text.txt", "other words");
  const Plan after = plan();
  for (const std::string& id : after.order)
    CHECK_FALSE(before.steps.contains(id));  // those that use the first step's file, too
}

TEST_CASE_FIXTURE(
    Fixture, "[ablation.plan] threads and seed are options of every step, unless it has its own") {
  const Plan p = plan("threads = 3\nseed = 9\n" + kTwoSteps);
  const auto& arguments = p.steps.at(p.cells[0].steps[0]).arguments;
  CHECK(std::find(arguments.begin(), arguments.end(), "--threads=3") != arguments.end());
  CHECK(std::find(arguments.begin(), arguments.end(), "--seed=9") != arguments.end());
  CHECK_FALSE(plan().steps.contains(p.order[0]));
}

TEST_CASE_FIXTURE(Fixture,
                  "[ablation.plan] what would have no effect on a step is not given to it, or "
                  "refused where the step asks for it") {
  const auto text = [](const std::string& options) {
    return "[steps.copy]\ndriver = \"copy\"\noptions = {" + options +
           "}\n[results]\nsize = \"copy.size\"\n";
  };
  const Plan p = plan("seed = 9\n" + text("out = \"v\""));
  CHECK(p.steps.at(p.order[0]).arguments == std::vector<std::string>{"--out=v", "--threads=1"});
  CHECK(plan("device = \"cuda\"\n" + text("out = \"v\"")).order == p.order);
  CHECK(error_of([&] { plan(text("out = \"v\", seed = 1")); }) ==
        "e.toml:1: steps.copy: vyx-copy: --seed has no effect: nothing is random");
}

TEST_CASE_FIXTURE(Fixture,
                  "[ablation.plan] a grid of tables gives each cell its options, and leaves out "
                  "what a table lacks") {
  const Plan p = plan(R"([grid]
recipe = [{name = "a", method = "topk", k = 8}, {name = "b", method = "relu", fast = true}]
[steps.make]
driver = "make"
options = {method = "{recipe.method}", k = "{recipe.k}", fast = "{recipe.fast}", out = "v"}
[results]
size = "make.size"
)");
  CHECK(p.steps.at(p.cells[0].steps[0]).arguments ==
        std::vector<std::string>{"--device=cpu", "--k=8", "--method=topk", "--out=v", "--seed=0",
                                 "--threads=1"});
  CHECK(p.steps.at(p.cells[1].steps[0]).arguments ==
        std::vector<std::string>{"--device=cpu", "--fast", "--method=relu", "--out=v", "--seed=0",
                                 "--threads=1"});
  CHECK(p.cells[1].key[0].second == "b");
}

TEST_CASE_FIXTURE(
    Fixture,
    "[ablation.plan] what a driver cannot do is found before anything runs, with its line") {
  CHECK(contains(
      error("coefficients =", "coeficients ="),
      "e.toml:8: steps.use: vyx-use has no option \"coeficients\"; did you mean coefficients?"));
  CHECK(contains(error("[\"{c}\"]", "[\"{c}\", \"two\"]"),
                 "coefficients: found \"two\", expected a number"));
  CHECK(contains(error("method = \"{method}\", text", "k = 1.5, method = \"{method}\", text"),
                 "k: found \"1.5\", expected an integer"));
  CHECK(contains(error("method = \"{method}\", text", "fast = 1, method = \"{method}\", text"),
                 "fast: found \"1\", expected true or false"));
  CHECK(contains(error("method = \"{method}\"", "method = [\"{method}\"]"),
                 "method: found a list, expected one value"));
  CHECK(contains(error(", out = \"v.gguf\"", ""),
                 "e.toml:9: steps.make: vyx-make needs the option out"));
  CHECK(contains(error("{steps.make.out}", "{steps.make.k}"),
                 "{steps.make.k}: the step does not set the option \"k\""));
  CHECK(contains(error("{steps.make.out}", "{steps.mak.out}"),
                 "there is no step \"mak\"; did you mean make?"));
  CHECK(contains(error("\"{text}\"", "\"{txt}\""),
                 "e.toml:11: steps.make: {txt}: nothing in files, values, grid or steps has that "
                 "name; did you mean text?"));
  CHECK(contains(error("\"{text}\"", "\"../x.txt\""),
                 "text: found \"../x.txt\", expected a name in the step's own folder"));
  CHECK(
      contains(error("\"{text}\"", "\"/etc/passwd\""), "expected a name in the step's own folder"));
  CHECK(contains(error("TEXT", "/no/such/file"),
                 "e.toml:2: files.text: /no/such/file: no such file; or give --set text=PATH"));
  CHECK(contains(error("driver = \"make\"", "driver = \"mkae\""), "no driver mkae"));
  CHECK(contains(error("text = \"{text}\"", "text = \"{steps.use.vector}\""), "needs itself"));
  CHECK(contains(error("[grid]", "[values]\nx = \"{y}\"\ny = \"{x}\"\n[grid]\nz = [\"{x}\"]"),
                 "no step refers to {z}"));
  CHECK(contains(error("[\"{c}\"]", "[\"{c}\"], json = true"),
                 "--json is given to every driver already"));
}

TEST_CASE_FIXTURE(Fixture, "[ablation.plan] values may refer to others, but not to themselves") {
  std::string text = "[values]\nx = \"{y}\"\ny = \"{x}\"\n" + kTwoSteps;
  CHECK(error_of([&] { plan(text); }).empty());  // nobody asks
  text.replace(text.find("\"{method}\""), 10, "\"{x}{method}\"");
  CHECK(contains(error_of([&] { plan(text); }), "refers to itself"));
}

TEST_CASE_FIXTURE(Fixture, "[ablation.plan] a folder's digest is of its files' names and bytes") {
  std::filesystem::create_directories(folder / "d/sub");
  write_file(folder / "d/a", "1");
  write_file(folder / "d/sub/b", "2");
  const std::string before = digest_of(folder / "d");
  CHECK(digest_of(folder / "d") == before);
  std::filesystem::rename(folder / "d/sub/b", folder / "d/sub/c");
  CHECK(digest_of(folder / "d") != before);
}

}  // namespace
}  // namespace vyx::ablation
