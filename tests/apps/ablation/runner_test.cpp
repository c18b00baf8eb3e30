#include "apps/ablation/runner.h"

#include <fstream>

#include "apps/ablation/machine.h"
#include "apps/ablation/manifest.h"
#include "apps/ablation/process.h"
#include "core/io/digest.h"
#include "core/io/files.h"
#include "tests/apps/ablation/fake_drivers.h"
#include "tests/test_support.h"

namespace vyx::ablation {
namespace {

using test::contains;

// A driver that is a shell script: writes `v`, prints its k and how often it ran.
constexpr const char* kScript = R"(#!/bin/sh
echo run >> "$(dirname "$0")/count"
k=0
for word; do case $word in --k=*) k=${word#--k=};; esac; done
if [ "$k" = 2 ]; then
  echo "warning: not this" >&2
  echo "vyx-make: $(pwd)/v: two is no number" >&2
  exit 1
fi
if [ "$k" = 3 ]; then kill -9 $$; fi
if [ "$k" = 4 ]; then echo "no JSON"; exit 0; fi
echo "$k" > v
echo "{\"k\": $k}"
)";

constexpr const char* kExperiment = R"([grid]
k = [1, 2, 3, 4, 5]
[steps.make]
driver = "make"
options = {k = "{k}", out = "v"}
[results]
k = "make.k"
)";

class Fixture {
 public:
  Fixture() {
    write_file(folder / "driver", kScript);
    std::filesystem::permissions(folder / "driver", std::filesystem::perms::owner_all);
    drivers.set_program(folder / "driver");
    std::filesystem::create_directories(run_folder);
    plan =
        make_plan({{"", parse_experiment(parse_toml(kExperiment, "e.toml"))}}, drivers, run_folder);
  }
  size_t runs() const {
    std::ifstream file(folder / "count");
    size_t count = 0;
    for (std::string line; std::getline(file, line);) ++count;
    return count;
  }

  const test::TemporaryFolder folder;
  const std::filesystem::path run_folder = folder / "run";
  test::FakeDrivers drivers;
  Plan plan;
};

TEST_CASE_FIXTURE(
    Fixture,
    "[ablation.runner] a cell that fails is recorded in its one line, and the rest go on") {
  for (const int jobs : {1, 3}) {
    std::filesystem::remove_all(run_folder);
    std::filesystem::create_directories(run_folder);
    const RunResult result = run(plan, run_folder, {.jobs = jobs});
    REQUIRE(result.rows.size() == 5);
    CHECK(result.failed() == 3);
    CHECK(result.rows[0].results[0].second == 1);
    CHECK(result.rows[1].error == "vyx-make: steps/" + plan.cells[1].steps[0] +
                                      "/files/v: two is no number");  // wherever the run is
    CHECK(result.rows[2].error == "vyx-make: ended by signal 9 (Killed)");
    CHECK(contains(result.rows[3].error, "vyx-make --json"));
    CHECK(result.rows[4].results[0].second == 5);
    CHECK(read_text_file(run_folder / "results.jsonl") == to_jsonl(result.rows));
    CHECK(read_text_file(files_folder(run_folder, plan.cells[4].steps[0]) / "v") == "5\n");
  }
}

TEST_CASE_FIXTURE(Fixture,
                  "[ablation.runner] runs what is missing: what failed, what lost a file, what was "
                  "never finished") {
  const RunResult first = run(plan, run_folder, {});
  CHECK(runs() == 5);
  const RunResult second = run(plan, run_folder, {});
  CHECK(runs() == 8);  // the three that failed
  CHECK(second.steps_found == 2);
  CHECK(to_jsonl(second.rows) == to_jsonl(first.rows));
  std::filesystem::remove(files_folder(run_folder, plan.cells[0].steps[0]) / "v");
  std::filesystem::remove(run_folder / "steps" / plan.cells[4].steps[0] / "step.json");
  const RunResult third = run(plan, run_folder, {});
  CHECK(runs() == 13);
  CHECK(to_jsonl(third.rows) == to_jsonl(first.rows));
}

// A driver whose input names another file, which it copies to what it writes: "make" reads `list`
// outside of the run, "use" what "make" wrote.
constexpr const char* kReader = R"(#!/bin/sh
here=$(dirname "$0")
echo run >> "$here/count"
out=v
for word; do case $word in --out=*) out=${word#--out=};; esac; done
cat "$here/named" > "$out"
echo "{\"k\": 1, \"files_read\": [\"$here/named\", \"$here/list\", \"$(pwd)/$out\"]}"
)";
constexpr const char* kReading = R"([files]
list = "list"
[grid]
k = [1]
[steps.make]
driver = "make"
options = {k = "{k}", text = "{list}", out = "v"}
[steps.use]
driver = "use"
options = {vector = "{steps.make.out}"}
[results]
k = "use.k"
)";

TEST_CASE_FIXTURE(Fixture,
                  "[ablation.runner] a file that an input names counts: a step whose file changed "
                  "runs again, and what needs it") {
  write_file(folder / "driver", kReader);
  std::filesystem::permissions(folder / "driver", std::filesystem::perms::owner_all);
  write_file(folder / "named", "one");
  write_file(folder / "list", "named");
  const auto planned = [&] {
    Document document = parse_toml(kReading, "e.toml");
    document.value["files"]["list"] = (folder / "list").string();
    return make_plan({{"", parse_experiment(document)}}, drivers, run_folder);
  };
  const Plan reading = planned();
  const RunResult first = run(reading, run_folder, {});
  REQUIRE(first.failed() == 0);
  CHECK(first.steps_run == 2);
  using Inputs = std::map<std::string, std::string>;
  for (const auto& [id, record] : first.records) {  // neither the input itself nor outputs
    CHECK(record.inputs == Inputs{{(folder / "named").string(), sha256("one")}});
    CHECK_FALSE(record.output.contains("files_read"));
  }
  CHECK(manifest_of({}, {}, reading, run_folder, &first).inputs ==
        Inputs{{(folder / "list").string(), sha256("named")},
               {(folder / "named").string(), sha256("one")}});
  CHECK(run(reading, run_folder, {}).steps_found == 2);
  write_file(folder / "named", "two");
  CHECK(planned().order == reading.order);  // the plan cannot know
  const RunResult second = run(reading, run_folder, {});
  CHECK(second.steps_run == 2);
  CHECK(second.steps_found == 0);
  CHECK(read_text_file(files_folder(run_folder, reading.order[0]) / "v") == "two");
  std::filesystem::remove(folder / "named");
  CHECK(run(reading, run_folder, {}).failed() == 1);
  write_file(folder / "named", "two");
  CHECK(run(reading, run_folder, {}).failed() == 0);
}

TEST_CASE_FIXTURE(Fixture, "[ablation.runner] a step runs again when one that it needs does") {
  write_file(folder / "driver", kReader);
  std::filesystem::permissions(folder / "driver", std::filesystem::perms::owner_all);
  write_file(folder / "named", "one");
  write_file(folder / "list", "named");
  Document document = parse_toml(kReading, "e.toml");
  document.value["files"]["list"] = (folder / "list").string();
  const Plan reading = make_plan({{"", parse_experiment(document)}}, drivers, run_folder);
  (void)run(reading, run_folder, {});
  std::filesystem::remove(run_folder / "steps" / reading.order[0] / "step.json");
  CHECK(run(reading, run_folder, {}).steps_run == 2);
}

TEST_CASE_FIXTURE(Fixture, "[ablation.runner] asked to stop it starts nothing more, and says so") {
  const RunResult result = run(plan, run_folder, {.should_stop = [] { return true; }});
  CHECK(result.stopped);
  CHECK(result.rows.empty());
  CHECK(runs() == 0);
}

TEST_CASE(
    "[ablation.process] a program that is not there is an error, and a signal is told from a "
    "code") {
  const test::TemporaryFolder folder;
  const auto options = [&](const char* program, std::vector<std::string> arguments) {
    return ProcessOptions{.program = program,
                          .arguments = std::move(arguments),
                          .folder = folder.path(),
                          .output = folder / "out",
                          .errors = folder / "err"};
  };
  CHECK(contains(test::error_of([&] { start_process(options("/no/such/program", {})); }),
                 "cannot start (No such file"));
  const auto wait = [](pid_t process) {
    std::optional<Exit> exit;
    while (!exit) exit = poll_process(process);
    return *exit;
  };
  CHECK(wait(start_process(options("/bin/sh", {"-c", "pwd; exit 7"}))).code == 7);
  CHECK(read_text_file(folder / "out") ==
        std::filesystem::canonical(folder.path()).string() + "\n");
  CHECK(wait(start_process(options("/bin/sh", {"-c", "kill -15 $$"}))).signal == 15);
  CHECK(output_of("/bin/echo", {"a b", "c"}) == "a b c\n");
  CHECK(contains(test::error_of([&] { output_of("/bin/false", {}); }), "failed with code 1"));
}

TEST_CASE("[ablation.machine] the processor's name and the flags that choose kernels are read") {
  const Machine machine = parse_cpuinfo(
      "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nflags\t\t: fpu sse avx2 amx_tile "
      "avx512_bf16 xyz\n\nprocessor\t: 1\n");
  CHECK(machine.cpu == "Some CPU @ 2 GHz");
  CHECK(machine.flags == std::vector<std::string>{"amx_tile", "avx2", "avx512_bf16"});
  CHECK(parse_cpuinfo("").cpu.empty());
}

}  // namespace
}  // namespace vyx::ablation
