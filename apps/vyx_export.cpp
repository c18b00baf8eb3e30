#include <filesystem>

#include "apps/driver.h"
#include "apps/vector_options.h"
#include "core/bake.h"
#include "core/error.h"
#include "core/io.h"
#include "core/script_archive.h"

int main(int argc, char** argv) {
  using namespace vyx;
  std::string model_path, out;
  double coefficient = 1;
  apps::VectorOptions vector_options;

  apps::Driver driver(
      "vyx-export", "--model model.pt --vector happy.gguf --out steered.pt",
      "Writes control vectors into the model itself: an archive that steers in stock Python, with torch "
      "alone.\n"
      "    m = torch.jit.load('steered.pt'); m.set_coefficient(4.0); logits = m(ids)  # [batch, seq, vocab]",
      "  vyx-export --model smollm2.pt --vector happy.gguf --sites 'model.layers.{8..21}' --out steered.pt\n"
      "  vyx-export --model smollm2.pt --vector happy.gguf=1 --vector formal.gguf=0.5 --coefficient 4 \\\n"
      "             --out steered.pt");
  driver.options()("model,m", apps::po::value(&model_path)->required()->value_name("FILE"),
                   "the archive of vyx-import")(
      "out,o", apps::po::value(&out)->required()->value_name("FILE"), "the archive to write")(
      "coefficient,c", apps::po::value(&coefficient)->default_value(coefficient)->value_name("C"),
      "multiplies all vectors until set_coefficient is called");
  vector_options.add_to(driver, /*with_positions=*/false);

  return driver.run(argc, argv, [&](const apps::CommonOptions& common) -> Json {
    if (vector_options.vectors.empty()) throw UsageError("expected at least one --vector");
    require_writable(out);
    const Stopwatch stopwatch;
    auto model = models::LanguageModel::load(model_path);
    const auto edits =
        steering::make_edits(model, vector_options.read(model, common), vector_options.steer_options());
    // The archive is read once more because the model in memory is instrumented, and what is exported is not.
    const std::vector<std::string> extras{"config.json", "tokenizer.json"};
    const ScriptArchive archive = load_script(model_path, extras);
    save_script(bake(archive.module, edits, coefficient), out, archive.extra_files);
    if (!common.json)
      fmt::print("{}: {} edited at {} sites, coefficient {}, {:.0f} MB, in {:.1f} s\n", out, model_path,
                 edits.size(), coefficient, std::filesystem::file_size(out) / 1e6, stopwatch.seconds());
    Json sites = Json::array();
    for (const SiteEdit& edit : edits) sites.push_back(edit.site.name());
    return {{"model", out},
            {"sites", sites},
            {"coefficient", coefficient},
            {"bytes", std::filesystem::file_size(out)},
            {"seconds", stopwatch.seconds()}};
  });
}
