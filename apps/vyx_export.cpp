#include <filesystem>

#include "apps/driver.h"
#include "apps/vector_options.h"
#include "core/bake.h"
#include "core/error.h"
#include "core/io.h"
#include "core/script_archive.h"
#include "core/stopwatch.h"
#include "sae/export.h"
#include "sae/files/autoencoder_file.h"

namespace {

using namespace vyx;

struct Options {
  std::string model, sae, out, format;
  double coefficient = 1;
  apps::VectorOptions vectors;
};

/// Control vectors baked into a model.
Json export_model(const Options& options, const apps::CommonOptions& common) {
  if (options.vectors.vectors.empty()) throw UsageError("expected at least one --vector");
  require_writable(options.out);
  const Stopwatch stopwatch;
  auto model = models::LanguageModel::load(options.model);
  const auto edits = steering::make_edits(model, options.vectors.read(model, common), options.vectors.steer_options());
  // The archive is read once more because the model in memory is instrumented, and what is exported is not.
  const std::vector<std::string> extras{"config.json", "tokenizer.json"};
  const ScriptArchive archive = load_script(options.model, extras);
  save_script(bake(archive.module, edits, options.coefficient), options.out, archive.extra_files);
  if (!common.json)
    fmt::print("{}: {} edited at {} sites, coefficient {}, {:.0f} MB, in {:.1f} s\n", options.out, options.model, edits.size(),
               options.coefficient, std::filesystem::file_size(options.out) / 1e6, stopwatch.seconds());
  Json sites = Json::array();
  for (const SiteEdit& edit : edits) sites.push_back(edit.site.name());
  return {{"model", options.out},
          {"sites", sites},
          {"coefficient", options.coefficient},
          {"bytes", std::filesystem::file_size(options.out)},
          {"seconds", stopwatch.seconds()}};
}

/// An autoencoder as TorchScript, or in another format's files.
Json export_autoencoder(const Options& options, const apps::CommonOptions& common) {
  if (!options.vectors.vectors.empty()) throw UsageError("--vector goes with --model, not with --sae");
  const bool script = options.format == "torchscript";
  const auto format = script ? sae::FileFormat::saelens : sae::file_format_from_name(options.format);
  if (script || format == sae::FileFormat::openai) require_writable(options.out);
  const sae::Autoencoder autoencoder = sae::load_autoencoder(options.sae);
  if (script) {
    save_script(sae::export_script(autoencoder), options.out);
  } else {
    sae::save_autoencoder(autoencoder, options.out, format);
  }
  if (!common.json)
    fmt::print("{}: {} with {} latents from {}, as {}\n", options.out, sae::name_of(autoencoder.config.architecture),
               autoencoder.config.latents, options.sae, options.format);
  return {{"sae", options.out},
          {"format", options.format},
          {"architecture", sae::name_of(autoencoder.config.architecture)},
          {"latents", autoencoder.config.latents}};
}

}  // namespace

int main(int argc, char** argv) {
  Options options{.format = "torchscript"};
  apps::Driver driver("vyx-export", "(--model model.pt --vector happy.gguf | --sae folder) --out steered.pt",
                      "Writes control vectors into the model itself: an archive that steers in stock Python, with torch alone.\n"
                      "    m = torch.jit.load('steered.pt'); m.set_coefficient(4.0); logits = m(ids)  # [batch, seq, vocab]\n"
                      "Or an autoencoder, read in any format, as such an archive or in the files of another library.\n"
                      "    s = torch.jit.load('sae.pt'); f = s.encode(x); y = s.decode(f, x)  # [.., latents], [.., d]",
                      "  vyx-export --model smollm2.pt --vector happy.gguf --sites 'model.layers.{8..21}' --out steered.pt\n"
                      "  vyx-export --model smollm2.pt --vector happy.gguf=1 --vector formal.gguf=0.5 --coefficient 4 \\\n"
                      "             --out steered.pt\n"
                      "  vyx-export --sae runs/sae --out sae.pt\n"
                      "  vyx-export --sae gemma/params.npz --format saelens --out gemma_saelens");
  driver.options()("model,m", apps::po::value(&options.model)->value_name("FILE"), "the archive of vyx-import")(
      "sae", apps::po::value(&options.sae)->value_name("PATH"), "an autoencoder's folder or file")(
      "out,o", apps::po::value(&options.out)->required()->value_name("PATH"), "the archive or folder to write")(
      "format", apps::po::value(&options.format)->default_value(options.format)->value_name("NAME"),
      "of the autoencoder: torchscript, saelens, sparsify, dictionary-learning, openai, gemma-scope or gemma-scope-2")(
      "coefficient,c", apps::po::value(&options.coefficient)->default_value(options.coefficient)->value_name("C"),
      "multiplies all vectors until set_coefficient is called");
  options.vectors.add_to(driver, /*with_positions=*/false);

  return driver.run(argc, argv, [&](const apps::CommonOptions& common) -> Json {
    if (options.model.empty() == options.sae.empty()) throw UsageError("expected either --model or --sae");
    return options.sae.empty() ? export_model(options, common) : export_autoencoder(options, common);
  });
}
