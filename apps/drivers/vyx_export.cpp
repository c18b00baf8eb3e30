#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "apps/options/driver.h"
#include "apps/options/latent_options.h"
#include "apps/options/vector_options.h"
#include "core/base/error.h"
#include "core/base/stopwatch.h"
#include "core/edits/bake.h"
#include "core/hooks/script_archive.h"
#include "core/io/files.h"
#include "sae/edits/export.h"
#include "sae/edits/settable_latents.h"
#include "sae/files/autoencoder_file.h"

namespace {

using namespace vyx;

struct Options {
  std::string model, out, format;
  double coefficient = 1;
  apps::VectorOptions vectors;
  apps::LatentOptions latents;  // with --sae, which without --model is what is exported
};

/// `module` with the vectors' edits and the changed latents in it; latents that were given no value
/// are as they were until they are set.
torch::jit::Module bake_all(const torch::jit::Module& module, const std::vector<SiteEdit>& edits,
                            const std::optional<apps::LatentIntervention>& intervention,
                            const Options& options) {
  if (!intervention) return bake(module, edits, options.coefficient);
  const auto& [site, autoencoder, changes, edit_options] = *intervention;
  torch::jit::Module baked = sae::bake_latents(module, edits, site, autoencoder, changes,
                                               edit_options, options.coefficient);
  for (const std::string& text : options.latents.latents)
    if (const apps::LatentArgument latent = apps::parse_latent(text); !latent.kind)
      baked.run_method("clear_latent", latent.latent);
  return baked;
}

/// Control vectors and latents baked into a model.
Json export_model(const Options& options, const apps::CommonOptions& common) {
  options.latents.check(/*needs_values=*/false);
  const bool latents = !options.latents.sae.empty();
  if (latents && options.latents.latents.empty() && !options.latents.without_error)
    throw UsageError(
        "--sae with --model: found no latent to change, expected at least one --latent");
  if (options.vectors.vectors.empty() && !latents)
    throw UsageError("expected at least one --vector, or --sae with --latent");
  require_writable(options.out);
  const Stopwatch stopwatch;
  auto model = models::LanguageModel::load(options.model);
  const auto edits = steering::make_edits(model, options.vectors.read(model, common),
                                          options.vectors.steer_options());
  std::optional<apps::LatentIntervention> intervention;
  if (latents) intervention = options.latents.read(model, options.vectors.allow_other_model);
  // The archive is read once more because the model in memory is instrumented, and what is exported
  // is not.
  const std::vector<std::string> extras{"config.json", "tokenizer.json"};
  const ScriptArchive archive = load_script(options.model, extras);
  save_script(bake_all(archive.module, edits, intervention, options), options.out,
              archive.extra_files);
  Json sites = Json::array();
  for (const SiteEdit& edit : edits) sites.push_back(edit.site.name());
  if (intervention) sites.push_back(intervention->site.name());
  if (!common.json)
    fmt::print("{}: {} edited at {} sites, coefficient {}, {:.0f} MB, in {:.1f} s\n", options.out,
               options.model, sites.size(), options.coefficient,
               std::filesystem::file_size(options.out) / 1e6, stopwatch.seconds());
  return {{"model", options.out},
          {"sites", sites},
          {"latents", options.latents.latents},
          {"coefficient", options.coefficient},
          {"bytes", std::filesystem::file_size(options.out)},
          {"seconds", stopwatch.seconds()}};
}

/// An autoencoder as TorchScript, or in another format's files.
Json export_autoencoder(const Options& options, const apps::CommonOptions& common) {
  const bool script = options.format == "torchscript";
  const auto format =
      script ? sae::FileFormat::saelens : sae::file_format_from_name(options.format);
  if (script || format == sae::FileFormat::openai) require_writable(options.out);
  const sae::Autoencoder autoencoder = sae::load_autoencoder(options.latents.sae);
  if (script) {
    save_script(sae::export_script(autoencoder), options.out);
  } else {
    sae::save_autoencoder(autoencoder, options.out, format);
  }
  if (!common.json)
    fmt::print("{}: {} with {} latents from {}, as {}\n", options.out,
               sae::name_of(autoencoder.config.architecture), autoencoder.config.latents,
               options.latents.sae, options.format);
  return {{"sae", options.out},
          {"format", options.format},
          {"architecture", sae::name_of(autoencoder.config.architecture)},
          {"latents", autoencoder.config.latents}};
}

}  // namespace

int main(int argc, char** argv) {
  Options options{.format = "torchscript"};
  apps::Driver driver(
      "vyx-export",
      "(--model model.pt [--vector happy.gguf] [--sae sae/ --latent I] | --sae sae/) "
      "--out steered.pt",
      "Writes control vectors and changed latents into the model itself: an archive that steers in "
      "stock Python, with torch alone. Or an autoencoder, read in any format, as such an archive "
      "or in the files of another library.",
      "  vyx-export --model smollm2.pt --vector happy.gguf --sites 'model.layers.{8..21}' \\\n"
      "             --out steered.pt\n"
      "  vyx-export --model smollm2.pt --vector happy.gguf=1 --vector formal.gguf=0.5 \\\n"
      "             --coefficient 4 --out steered.pt\n"
      "  vyx-export --model smollm2.pt --sae out/demo/sae --latent 2938=3x --latent 77 "
      "--out golden.pt\n"
      "  vyx-export --sae runs/sae --out sae.pt\n"
      "  vyx-export --sae gemma/params.npz --format saelens --out gemma_saelens\n"
      "in Python:\n"
      "  m = torch.jit.load('steered.pt'); m.set_coefficient(4.0)\n"
      "  logits = m(ids)           # [batch, seq, vocab]\n"
      "  m.set_latent(2938, 12.0)  # for each --latent that is set, or has no value yet\n"
      "  m.clear_latent(2938)\n"
      "  s = torch.jit.load('sae.pt'); f = s.encode(x); y = s.decode(f, x)  "
      "# [.., latents], [.., d]");
  auto& option = driver.options();
  option("model,m", options.model, "FILE", "the archive of vyx-import");
  option("sae", options.latents.sae, "PATH", "the autoencoder, in any format that vyx reads");
  option("out,o", options.out, "PATH", "the archive or folder to write", apps::kRequired);
  option("format", options.format, "NAME",
         "of the autoencoder: torchscript, saelens, sparsify, dictionary-learning, openai, "
         "gemma-scope or gemma-scope-2")
      .not_with("model");
  option("coefficient,c", options.coefficient, "C",
         "multiplies all vectors and what latents add, until set_coefficient is called")
      .needs("model");
  options.vectors.add_to(driver, /*with_positions=*/false);
  options.latents.add_to(driver, /*with_sae=*/false);
  option.writes("out");
  for (const char* name : {"vector", "latent", "without-error", "allow-other-model", "site"})
    option.row(name).needs("model");
  driver.common("seed").never("nothing here is random");
  driver.common("device").never("what is written is made on the CPU");
  driver.result({{"model", "the archive"},
                 {"sites", "where it is edited"},
                 {"latents", "as given"},
                 {"coefficient", ""},
                 {"bytes", "of the archive"},
                 {"seconds", ""}},
                "with --model");
  driver.result({{"sae", "what was written"},
                 {"format", ""},
                 {"architecture", "such as topk"},
                 {"latents", "size of the dictionary"}},
                "with --sae alone");

  return driver.run(argc, argv, [&](const apps::CommonOptions& common) -> Json {
    if (options.model.empty() && options.latents.sae.empty())
      throw UsageError("expected --model or --sae");
    return options.model.empty() ? export_autoencoder(options, common)
                                 : export_model(options, common);
  });
}
