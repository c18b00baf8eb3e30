#include "apps/inspect/inspect.h"
#include "apps/options/driver.h"

namespace {

using namespace vyx;

void list_keys(apps::Driver& driver) {
  driver.result(
      {{"kind", "torchscript"},
       {"parameters", "how many numbers"},
       {"config", "of a language model; else null"},
       {"sites", "shape: with --run, of a language model, for one prompt of two tokens",
        "site, shape"},
       {"tensors", "the parameters", "name, dtype, shape"},
       {"opaque", "modules that save a state of their own making; --run shows what is in them"}},
      "of a TorchScript archive");
  driver.result({{"kind", "gguf"},
                 {"gguf_version", ""},
                 {"parameters", "how many numbers"},
                 {"metadata", "the file's own keys; long values are cut"},
                 {"tensors", "", "name, type, shape"}},
                "of a GGUF file");
  driver.result({{"kind", "control vector"},
                 {"model_name", "the model that it was made with"},
                 {"model_hint", "its architecture"},
                 {"method", ""},
                 {"pairs", "that it was made from"},
                 {"width", "of the vector, d"},
                 {"warning", "what was odd about the file, or \"\""},
                 {"sites", "one per direction", "site, norm, held_out_accuracy"}},
                "of a control vector");
  driver.result({{"kind", "safetensors"},
                 {"parameters", "how many numbers"},
                 {"metadata", "the file's own keys"},
                 {"tensors", "", "name, type, shape"}},
                "of a safetensors file");
  driver.result({{"kind", "autoencoder"},
                 {"format", "such as saelens"},
                 {"architecture", "such as topk"},
                 {"d_in", "width of what it reads"},
                 {"d_out", "width of what it writes"},
                 {"latents", "size of the dictionary"},
                 {"k", "latents per token, or null"},
                 {"prefixes", "Matryoshka's"},
                 {"normalization", "of activations"},
                 {"subtract_decoder_bias", "before the encoder"},
                 {"skip", "whether it has a linear connection from x to its output"},
                 {"sites", "where it belongs"},
                 {"target_sites", "a transcoder's"},
                 {"decoder_norm", "mean norm of a decoder row"},
                 {"metadata", "how it was made"}},
                "of an autoencoder");
  driver.result({{"kind", "activation store"},
                 {"format", ""},
                 {"store_version", "of its manifest"},
                 {"recipe", "how it was harvested"},
                 {"left_out", "rows by reason"},
                 {"input", "what was read"},
                 {"dtype", "of the rows"},
                 {"rows", ""},
                 {"tokens", "that were read"},
                 {"sites", "one per site",
                  "site, width, mean, norm_mean, norm_rms, norm_max, norm_median, norm_threshold"},
                 {"shards", "its files"}},
                "of an activation store");
}

}  // namespace

int main(int argc, char** argv) {
  std::string path;
  bool run = false;
  apps::Driver driver("vyx-inspect", "FILE",
                      "Shows what is in a model.pt (sites, parameters, config), a GGUF file, a "
                      "control vector, a safetensors file, an autoencoder or an activation store. "
                      "Nothing that is in the file runs.",
                      "  vyx-inspect smollm2.pt\n"
                      "  vyx-inspect smollm2.pt --run\n"
                      "  vyx-inspect happy.gguf\n"
                      "  vyx-inspect --json smollm2.gguf\n"
                      "  vyx-inspect runs/sae");
  driver.options()("file", path, "PATH", "the file or folder", apps::kRequired);
  driver.options()("run", run,
                   "load a model.pt and run it on two tokens, for the shapes at its sites");
  driver.common("seed").never("nothing here is random");
  driver.common("device").never("a file is read on the CPU");
  driver.positional("file");
  list_keys(driver);

  return driver.run(argc, argv, [&](const apps::CommonOptions& common) -> Json {
    const apps::Inspection inspection = apps::inspect(path, run);
    if (!common.json) fmt::print("{}", inspection.text);
    return inspection.json;
  });
}
