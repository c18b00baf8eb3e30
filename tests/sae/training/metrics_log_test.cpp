#include "sae/training/metrics_log.h"

#include "core/io/files.h"
#include "tests/torch_support.h"

using namespace vyx;
using namespace vyx::sae;

TEST_CASE("[sae.metrics_log] lines come back in their order") {
  const vyx::test::TemporaryFolder folder;
  {
    MetricsLog log(folder / "m.jsonl", 0);
    log.append({{"step", 10}, {"loss", 0.1}});
    log.append({{"step", 20}, {"loss", nullptr}});
    log.sync();
  }
  const auto lines = read_metrics(folder / "m.jsonl");
  REQUIRE(lines.size() == 2);
  CHECK(lines[0]["loss"] == 0.1);
  CHECK(lines[1]["step"] == 20);
}

TEST_CASE(
    "[sae.metrics_log] a run that goes on after step 20 keeps lines up to it, and none is there "
    "twice") {
  const vyx::test::TemporaryFolder folder;
  for (const std::string torn :
       {"", "{\"step\":40,\"lo", "\n", "{}\n", "garbage\n{\"step\":15}\n"}) {
    write_file(folder / "m.jsonl", "{\"step\":10}\n{\"step\":20}\n{\"step\":30}\n" + torn);
    {
      MetricsLog log(folder / "m.jsonl", 20);
      log.append({{"step", 30}});
    }
    CHECK(read_text_file(folder / "m.jsonl") == "{\"step\":10}\n{\"step\":20}\n{\"step\":30}\n");
    { MetricsLog log(folder / "m.jsonl", 0); }
    CHECK(read_text_file(folder / "m.jsonl").empty());
  }
}

TEST_CASE("[sae.metrics_log] half a line is no line") {
  const vyx::test::TemporaryFolder folder;
  write_file(folder / "m.jsonl", "{\"step\":10}\n{\"step\":20}");
  CHECK(read_metrics(folder / "m.jsonl").size() == 1);
  MetricsLog log(folder / "m.jsonl", 20);
  CHECK(read_text_file(folder / "m.jsonl") == "{\"step\":10}\n");
}
