#include <filesystem>
#include <optional>

#include "apps/options/driver.h"
#include "core/base/error.h"
#include "models/importers/gguf_importer.h"

namespace {

at::ScalarType dtype_from_name(const std::string& name) {
  if (name == "float32") return at::kFloat;
  if (name == "bfloat16") return at::kBFloat16;
  if (name == "float16") return at::kHalf;
  throw vyx::UsageError(fmt::format("--dtype {}: expected float32, bfloat16 or float16", name));
}

}  // namespace

int main(int argc, char** argv) {
  using namespace vyx;
  std::string source, out, dtype = "float32";

  apps::Driver driver(
      "vyx-import", "SOURCE.gguf --out model.pt",
      "Turns a language model's GGUF file into TorchScript: one archive with weights, config and "
      "tokenizer, which the other programs and stock torch.jit.load open.",
      "  vyx-import smollm2.gguf --out smollm2.pt\n"
      "  vyx-import smollm2.gguf --out smollm2-bf16.pt --dtype bfloat16");
  auto& option = driver.options();
  option("source", source, "FILE", "the GGUF file", apps::kRequired);
  option("out,o", out, "FILE", "the archive to write", apps::kRequired);
  option("dtype", dtype, "TYPE", "of the weights: float32, bfloat16 or float16");
  driver.common("seed").never("nothing here is random");
  driver.common("device").never("a file is copied on the CPU");
  driver.positional("source");
  option.writes("out");
  driver.result({{"model", "the archive"},
                 {"name", "as the GGUF file has it"},
                 {"architecture", "such as llama"},
                 {"parameters", "how many numbers the weights are"},
                 {"tensors", "how many tensors the file held"},
                 {"dtype", "of the weights"},
                 {"bytes", "of the archive"},
                 {"source_sha256", "of the GGUF file"},
                 {"seconds", ""}});

  return driver.run(argc, argv, [&](const apps::CommonOptions& common) -> Json {
    const Stopwatch stopwatch;
    std::optional<Progress> progress;
    const models::ImportResult result = models::import_gguf(
        source, out,
        {.dtype = dtype_from_name(dtype), .on_progress = [&](uint64_t done, uint64_t total) {
           if (!progress) progress.emplace("Importing", total, "parameters", common.progress());
           progress->advance(done - progress->done());
         }});
    progress.reset();
    for (const std::string& warning : result.warnings) common.warn(warning);
    const double seconds = stopwatch.seconds();
    const auto bytes = std::filesystem::file_size(out);
    if (!common.json)
      fmt::print("{}: {}, {} parameters in {}, {:.0f} MB, in {:.1f} s\n", out,
                 result.config.provenance.name, result.parameters, result.config.dtype, bytes / 1e6,
                 seconds);
    return {{"model", out},
            {"name", result.config.provenance.name},
            {"architecture", result.config.architecture},
            {"parameters", result.parameters},
            {"tensors", result.tensors},
            {"dtype", result.config.dtype},
            {"bytes", bytes},
            {"source_sha256", result.config.provenance.sha256},
            {"seconds", seconds}};
  });
}
