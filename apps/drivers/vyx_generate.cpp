#include <array>
#include <cstdio>

#include "apps/options/driver.h"
#include "apps/options/interventions.h"
#include "core/base/error.h"
#include "core/base/utf8.h"
#include "models/generation/generate.h"

int main(int argc, char** argv) {
  using namespace vyx;
  std::string model_path, prompt;
  bool chat = false, special_in_text = false;
  models::GenerateOptions options;
  auto& sampling = options.sampling;
  apps::VectorOptions vector_options;
  apps::LatentOptions latent_options;

  apps::Driver driver(
      "vyx-generate",
      "--model model.pt --prompt TEXT [--vector happy.gguf=4]… [--sae sae/ --latent 2938=3x]…",
      "Continues a text: as the model is, steered by control vectors, or with latents of an "
      "autoencoder changed.",
      "  vyx-generate --model smollm2.pt --chat --prompt 'How was your day?'\n"
      "  vyx-generate --model smollm2.pt --chat --prompt 'How was your day?' \\\n"
      "               --vector happy.gguf=-6 --sites 'model.layers.{8..21}'\n"
      "  vyx-generate --model smollm2.pt --chat --prompt 'How was your day?' \\\n"
      "               --sae out/demo/sae --latent 2938=3x --latent 77=0");
  auto& option = driver.options();
  option("model,m", model_path, "FILE", "the archive of vyx-import", apps::kRequired);
  option("prompt,p", prompt, "TEXT", "the text to continue", apps::kRequired);
  option("chat", chat, "the prompt is a user's message; the model answers");
  option("special-in-text", special_in_text,
         "with --chat too, the text \"<|im_end|>\" is that token, not its characters");
  vector_options.add_to(driver);
  latent_options.add_to(driver);
  option("max-tokens,n", options.max_tokens, "N", "tokens to generate, at most");
  option("temperature", sampling.temperature, "T", "0: the most probable token each time");
  option("top-k", sampling.top_k, "K", "keep the K most probable tokens; 0: all")
      .unless("temperature", "0");
  option("top-p", sampling.top_p, "P", "keep the fewest tokens that have probability P together")
      .unless("temperature", "0");
  option("min-p", sampling.min_p, "P", "keep tokens with this share of the best one's probability")
      .unless("temperature", "0");
  option("repetition-penalty", sampling.repetition_penalty, "R",
         "of tokens that were there before; 1: none");
  option(
      "stop", options.stop, "TEXT",
      "end before this text, or at this control token (<|im_end|>); may be given more than once");
  option("ignore-end", options.ignore_end, "go on after the model's end token");
  driver.common("seed").unless("temperature", "0");
  driver.result({{"prompt", ""},
                 {"text", "what was generated"},
                 {"tokens", "its token ids"},
                 {"stop_reason", "end, stop or length"},
                 {"prompt_tokens", "how many"},
                 {"prompt_seconds", ""},
                 {"tokens_per_second", "of generating"},
                 {"vectors", "as given"},
                 {"latents", "as given"},
                 {"seed", ""}});

  return driver.run(argc, argv, [&](const apps::CommonOptions& common) -> Json {
    sampling.seed = common.seed;
    models::validate(options);
    (void)vector_options.steer_options();  // before the work
    latent_options.check();
    if (special_in_text && !chat)
      throw UsageError(
          "--special-in-text is for --chat; without it, control tokens are read anyway");

    auto model = models::LanguageModel::load(model_path, common.torch_device());
    if (!is_utf8(prompt))
      common.warn(
          "the prompt is not UTF-8: the model gets its bytes as they are, and --json shows U+FFFD "
          "for those that are no text");
    if (const int64_t lost = model.tokenizer().bytes_without_token(prompt); lost > 0)
      common.warn(fmt::format(
          "{} bytes of the prompt have no token in the model's vocabulary and are left out", lost));
    const apps::AttachedInterventions attached =
        apps::read_interventions(vector_options, latent_options, model, common).attach(model);
    if (!common.json)
      options.on_text = [](std::string_view text) {
        fmt::print("{}", text);
        return std::fflush(stdout) == 0;
      };
    const models::ChatMessage message{.role = "user", .content = prompt};
    const std::array tokens{chat ? model.encode_chat({&message, 1}, special_in_text)
                                 : model.encode_prompt(prompt)};
    const auto [rows, statistics] = models::generate(model, tokens, options);
    if (statistics.generated_tokens > 1) attached.require_fired();

    if (!common.json) fmt::print("\n");
    if (!common.json && !common.quiet)
      fmt::print(stderr, "[{} tokens, {:.1f} tokens/s, ended by {}]\n", statistics.generated_tokens,
                 statistics.tokens_per_second(), rows[0].stop_reason);
    return {{"prompt", prompt},
            {"text", rows[0].text},
            {"tokens", rows[0].tokens},
            {"stop_reason", rows[0].stop_reason},
            {"prompt_tokens", statistics.prompt_tokens},
            {"prompt_seconds", statistics.prompt_seconds},
            {"tokens_per_second", statistics.tokens_per_second()},
            {"vectors", vector_options.vectors},
            {"latents", latent_options.latents},
            {"seed", common.seed}};
  });
}
