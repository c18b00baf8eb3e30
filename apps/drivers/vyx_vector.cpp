#include <fmt/ranges.h>

#include <cmath>
#include <optional>

#include "apps/options/contrast_options.h"
#include "apps/options/driver.h"
#include "core/base/error.h"
#include "core/base/json_number.h"
#include "core/io/files.h"
#include "steering/directions/extract.h"
#include "steering/files/control_vector_file.h"

namespace {

using vyx::Json;
using vyx::steering::ControlVector;

std::string number_or_dash(double value) {
  return std::isnan(value) ? "–" : fmt::format("{:.3f}", value);
}

void print_table(const ControlVector& vector) {
  fmt::print("{:<32} {:>10} {:>9} {:>6} {:>14}\n", "site", "norm of x", "eigengap", "vote",
             "held out");
  for (const auto& [site, direction] : vector.directions) {
    const auto& s = direction.statistics;
    const auto doubts = doubts_of(s);
    fmt::print("{:<32} {:>10.1f} {:>9} {:>6.2f} {:>14}{}{}\n", site.name(), s.median_norm,
               number_or_dash(s.eigengap), s.sign_vote_margin,
               s.held_out == 0 ? "–" : fmt::format("{:.3f} of {}", s.held_out_accuracy, s.held_out),
               doubts.empty() ? "" : "  ", fmt::join(doubts, "; "));
  }
}

Json sites_json(const ControlVector& vector) {
  Json sites = Json::array();
  for (const auto& [site, direction] : vector.directions) {
    const auto& s = direction.statistics;
    sites.push_back({{"site", site.name()},
                     {"median_norm", s.median_norm},
                     {"eigenvalues", s.eigenvalues},
                     {"eigengap", vyx::number_or_null(s.eigengap)},
                     {"sign_vote_margin", s.sign_vote_margin},
                     {"held_out_accuracy", vyx::number_or_null(s.held_out_accuracy)},
                     {"held_out", s.held_out},
                     {"doubts", doubts_of(s)}});
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
      "inputs, at each site. llama.cpp and repeng read the file too.",
      "  vyx-vector --model smollm2.pt --template apps/data/happy.json --out happy.gguf\n"
      "  vyx-vector --model smollm2.pt --contrast pairs.jsonl --method mean \\\n"
      "             --sites 'model.layers.{8..20}' --out vector.gguf");
  auto& option = driver.options();
  option("model,m", model_path, "FILE", "the archive of vyx-import", apps::kRequired);
  contrast.add_to(driver);
  // vyx-ablate takes the choices from the unit, and refuses any other word before it runs.
  option("method", options.method, steering::method_names("|"), steering::method_help());
  option("sites,s", options.sites, "PATTERN",
         "where, such as 'model.layers.{8..20}' or '*.mlp'; if not given, the output of every "
         "block but the first");
  option("out,o", out, "FILE", "the control vector to write", apps::kRequired);
  option("batch-tokens", options.activations.max_batch_tokens, "N", "tokens per forward, at most");
  option.writes("out");
  driver.common("seed").never("nothing here is random");
  driver.result(
      {{"vector", "the file"},
       {"method", ""},
       {"pairs", "that it was made from"},
       {"left_out", "pairs with an attention sink on a side"},
       {"prompt_tokens", "of all pairs"},
       {"seconds", ""},
       {"width", "of the vector, d"},
       {"sites", "one per site; held_out: what its accuracy is of, pairs that differ or personas",
        "site, median_norm, eigenvalues, eigengap, sign_vote_margin, held_out_accuracy, held_out, "
        "doubts"}});

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
    std::string left_out;
    options.on_warning = [&](const std::string& line) { left_out = line; };
    const ControlVector vector = steering::extract(model, set, options);
    progress.reset();
    const double seconds = stopwatch.seconds();
    steering::write_control_vector(vector, out);
    if (!left_out.empty()) common.warn(left_out);
    for (const std::string& doubt : steering::doubts_of(vector))
      common.warn(fmt::format("{}: {}", out, doubt));
    const auto pairs = static_cast<size_t>(vector.provenance.pairs);

    if (!common.json) {
      print_table(vector);
      fmt::print("{}: {} of {} pairs at {} sites, {} tokens in {:.1f} s\n", out, options.method,
                 pairs, vector.directions.size(), prompt_tokens, seconds);
    }
    return {{"vector", out},
            {"method", options.method},
            {"pairs", pairs},
            {"left_out", set.pairs.size() - pairs},
            {"prompt_tokens", prompt_tokens},
            {"seconds", seconds},
            {"width", vector.width()},
            {"sites", sites_json(vector)}};
  });
}
