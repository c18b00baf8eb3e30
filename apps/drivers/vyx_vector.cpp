#include <optional>

#include "apps/options/contrast_options.h"
#include "apps/options/driver.h"
#include "core/base/error.h"
#include "core/io/files.h"
#include "steering/directions/extract.h"
#include "steering/files/control_vector_file.h"

namespace {

using vyx::Json;
using vyx::apps::json_number_or_null;
using vyx::steering::ControlVector;

void print_table(const ControlVector& vector) {
  fmt::print("{:<32} {:>10} {:>9} {:>6} {:>9}\n", "site", "norm of x", "eigengap", "vote",
             "held out");
  for (const auto& [site, direction] : vector.directions) {
    const auto& s = direction.statistics;
    fmt::print("{:<32} {:>10.1f} {:>9.3f} {:>6.2f} {:>9.3f}\n", site.name(), s.median_norm,
               s.eigengap, s.sign_vote_margin, s.held_out_accuracy);
  }
}

Json sites_json(const ControlVector& vector) {
  Json sites = Json::array();
  for (const auto& [site, direction] : vector.directions) {
    const auto& s = direction.statistics;
    sites.push_back({{"site", site.name()},
                     {"median_norm", s.median_norm},
                     {"eigenvalues", s.eigenvalues},
                     {"eigengap", s.eigengap},
                     {"sign_vote_margin", s.sign_vote_margin},
                     {"held_out_accuracy", json_number_or_null(s.held_out_accuracy)}});
  }
  return sites;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace vyx;
  steering::ExtractOptions options;
  std::string model_path, out;
  apps::ContrastOptions contrast;

  apps::Driver driver(
      "vyx-vector",
      "--model model.pt (--contrast pairs.jsonl | --template concept.json) --out concept.gguf",
      "Extracts a control vector: the direction that separates the activations of contrasting "
      "inputs, at\n"
      "each site. llama.cpp and repeng read the file too.",
      "  vyx-vector --model smollm2.pt --template apps/data/happy.json --out happy.gguf\n"
      "  vyx-vector --model smollm2.pt --contrast pairs.jsonl --method mean --sites "
      "'model.layers.{8..20}' \\\n"
      "             --out vector.gguf");
  driver.options()("model,m", apps::po::value(&model_path)->required()->value_name("FILE"),
                   "the archive of vyx-import");
  contrast.add_to(driver);
  driver.options()("method",
                   apps::po::value(&options.method)
                       ->default_value(options.method)
                       ->value_name(steering::method_names("|")),
                   steering::method_help().c_str())(
      "sites", apps::po::value(&options.sites)->value_name("GLOB"),
      "where, e.g. 'model.layers.{8..20}' or '*.mlp'; every block's output but the first one's if "
      "not given")("out,o", apps::po::value(&out)->required()->value_name("FILE"),
                   "the control vector to write")(
      "batch-tokens",
      apps::po::value(&options.activations.max_batch_tokens)
          ->default_value(options.activations.max_batch_tokens)
          ->value_name("N"),
      "tokens of one forward, at most");

  return driver.run(argc, argv, [&](const apps::CommonOptions& common) -> Json {
    contrast.validate();
    steering::method_named(options.method);  // before the work
    require_writable(out);
    auto model = models::LanguageModel::load(model_path, common.torch_device());
    const auto set = contrast.read(model, common);

    const Stopwatch stopwatch;
    uint64_t prompt_tokens = 0;
    for (const auto& [positive, negative] : set.pairs)
      for (const std::string* prompt : {&positive, &negative})
        prompt_tokens += model.encode_prompt(*prompt).size();
    std::optional<Progress> progress(std::in_place, "Extracting", prompt_tokens, "tokens",
                                     common.progress());
    options.activations.on_tokens = [&](uint64_t tokens) { progress->advance(tokens); };
    const ControlVector vector = steering::extract(model, set, options);
    progress.reset();
    const double seconds = stopwatch.seconds();
    steering::write_control_vector(vector, out);

    if (!common.json) {
      print_table(vector);
      fmt::print("{}: {} of {} pairs at {} sites, {} tokens in {:.1f} s\n", out, options.method,
                 set.pairs.size(), vector.directions.size(), prompt_tokens, seconds);
    }
    return {{"vector", out},
            {"method", options.method},
            {"pairs", set.pairs.size()},
            {"prompt_tokens", prompt_tokens},
            {"seconds", seconds},
            {"width", vector.width()},
            {"sites", sites_json(vector)}};
  });
}
