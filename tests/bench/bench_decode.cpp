// What hooks and steering cost a decode step on a real model: the plain module, the instrumented
// one, and the steered one, step by step in turn.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <optional>

#include <torch/csrc/jit/runtime/graph_executor.h>

#include "apps/options/driver.h"
#include "apps/options/latent_options.h"
#include "apps/options/vector_options.h"
#include "core/edits/attached_edit.h"
#include "core/hooks/script_archive.h"
#include "models/language_model/batch.h"

namespace {

using namespace vyx;

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
  std::string model_path;
  int64_t steps = 150;
  apps::VectorOptions vector_options;
  apps::LatentOptions latent_options;
  apps::Driver driver("bench-decode",
                      "--model model.pt [--vector happy.gguf] [--sae sae/ --latent 2938=10]",
                      "Times decode steps: plain, instrumented, steered.",
                      "  bench-decode --model out/demo/smollm2.pt --vector out/demo/happy.gguf "
                      "--sites 'model.layers.{8..20}'");
  auto& option = driver.options();
  option("model,m", model_path, "FILE", "the archive of vyx-import", apps::kRequired);
  option("steps", steps, "N", "steps of each kind");
  vector_options.add_to(driver);
  latent_options.add_to(driver);

  return driver.run(argc, argv, [&](const apps::CommonOptions& common) -> Json {
    c10::NoGradGuard no_grad;
    auto plain = load_script(model_path).module;
    auto model = models::LanguageModel::load(model_path);
    const std::vector<std::vector<models::TokenId>> prompt{
        model.encode_prompt("Tell me a story about a fox.", true)};
    const std::vector<std::vector<models::TokenId>> token{{100}};
    const auto prompt_batch = models::make_batch(prompt, models::Padding::right, 0);
    const auto token_batch = models::make_batch(token, models::Padding::right, 0);
    auto cache = model.make_cache(1, 64);
    model.extend(cache, prompt_batch);

    // Every step extends the same prompt by one token, so that all do the same work; plain and
    // instrumented run the same method on the same arguments, both without TorchScript's optimiser,
    // as LanguageModel runs it (with it a plain step is some 1 to 2 % faster, once it has been
    // compiled for the shape).
    const auto step = [&](auto&& extend) {
      cache.length = prompt_batch.ids.size(1);
      const auto start = std::chrono::steady_clock::now();
      extend();
      return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    };
    const auto arguments = [&] {
      c10::List<at::Tensor> keys(cache.keys), values(cache.values);
      return std::vector<c10::IValue>{token_batch.ids, c10::IValue(), keys, values, cache.length};
    };
    const auto plain_step = [&] {
      const torch::jit::GraphOptimizerEnabledGuard unoptimized(false);
      plain.get_method("logits")({plain.get_method("hidden")(arguments())});
    };
    const auto idle_step = [&] {
      const torch::jit::GraphOptimizerEnabledGuard unoptimized(false);
      model.module().run("logits", {model.module().run("hidden", arguments())});
    };
    const auto unsteered_step = [&] { model.head(model.extend(cache, token_batch)); };

    const auto weighted = vector_options.read(model, common);
    latent_options.check();
    std::optional<apps::LatentIntervention> intervention;
    if (!latent_options.sae.empty()) intervention = latent_options.read(model, false);
    const std::optional<Edit> latents =
        intervention ? std::optional(intervention->edit()) : std::nullopt;
    std::vector<double> plain_times, idle_times, unsteered_times, steered_times;
    for (int64_t i = -10; i < steps; ++i) {
      double plain_time = 0, idle_time = 0;
      if (i % 2 == 0) plain_time = step(plain_step);  // each goes first as often as the other
      idle_time = step(idle_step);
      if (i % 2 != 0) plain_time = step(plain_step);
      const double unsteered_time = step(unsteered_step);
      auto steering = steering::steer(model, weighted, vector_options.steer_options());
      std::optional<AttachedEdit> changed;
      if (latents) changed.emplace(attach(model.module(), intervention->site, *latents));
      const double steered_time = step(unsteered_step);
      if (i < 0) continue;  // warm-up
      plain_times.push_back(plain_time);
      idle_times.push_back(idle_time);
      unsteered_times.push_back(unsteered_time);
      steered_times.push_back(steered_time);
    }
    const double a = median(plain_times), b = median(idle_times), c = median(unsteered_times),
                 d = median(steered_times);
    if (!common.json)
      fmt::print(
          "decode step: plain {:.2f} ms, instrumented {:.2f} ms ({:+.2f} %); unsteered {:.2f} ms, "
          "steered {:.2f} ms ({:+.2f} %)\n",
          a * 1e3, b * 1e3, (b / a - 1) * 100, c * 1e3, d * 1e3, (d / c - 1) * 100);
    return {{"plain_seconds", a},
            {"instrumented_seconds", b},
            {"unsteered_seconds", c},
            {"steered_seconds", d},
            {"steps", steps}};
  });
}
