// What the model's parity tests ask of C++: parity-model import SOURCE OUT | run MODEL REQUEST.json
// OUT | speed MODEL. A request: {"rows": [[ids]…], "padding": "left" or "right", "sites":
// [pattern…], "greedy": n}; OUT is a dict of tensors for torch.load: "logits", "greedy" and the
// sites by name.
#include <ATen/Parallel.h>
#include <torch/script.h>

#include <array>
#include <chrono>
#include <iostream>
#include <optional>

#include "core/base/error.h"
#include "core/base/json_guard.h"
#include "core/hooks/activation_reader.h"
#include "core/io/files.h"
#include "models/activations/last_token_activations.h"
#include "models/generation/generate.h"
#include "models/importers/gguf_importer.h"
#include "models/language_model/language_model.h"

namespace {

using namespace vyx;
using namespace vyx::models;

/// The seconds that the best of `times` calls takes.
template <class Call>
double best_seconds(int times, Call&& call) {
  double best = 1e9;
  for (int i = 0; i < times; ++i) {
    const auto start = std::chrono::steady_clock::now();
    call();
    best = std::min(
        best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

Json run(const std::string& path, const Json& request, const std::string& out) {
  LanguageModel model = LanguageModel::load(path);
  const auto rows = request["rows"].get<std::vector<std::vector<TokenId>>>();
  const Padding padding = request["padding"] == "left" ? Padding::left : Padding::right;
  std::vector<Site> sites;
  for (const std::string pattern : request["sites"])
    for (const Site& site : model.module().match(pattern)) sites.push_back(site);
  c10::Dict<std::string, at::Tensor> result;
  const auto read = read_once(model.module(), sites, tensor_at, [&] {
    result.insert("logits", model.logits(make_batch(rows, padding, 0)));
  });
  for (size_t i = 0; i < sites.size(); ++i) result.insert(sites[i].name(), read[i]);
  if (const int64_t greedy = request["greedy"]; greedy > 0)
    result.insert(
        "greedy",
        at::tensor(
            generate(model, rows, {.max_tokens = greedy, .ignore_end = true}).rows[0].tokens));
  const std::vector<char> bytes = torch::jit::pickle_save(result);
  write_file(out, {bytes.data(), bytes.size()});
  return {};
}

Json speed(const std::string& path) {
  Json result;
  std::optional<LanguageModel> model;
  result["load_seconds"] = best_seconds(1, [&] { model = LanguageModel::load(path); });

  const std::vector<TokenId> prompt =
      model->encode_prompt("Once upon a time, in a village by the sea, there lived");
  const std::array one{prompt};
  GenerationStatistics fastest;
  for (int i = 0; i < 3; ++i) {
    const auto now = generate(*model, one, {.max_tokens = 48, .ignore_end = true}).statistics;
    if (now.tokens_per_second() > fastest.tokens_per_second()) fastest = now;
  }
  result["decode_tokens_per_second"] = fastest.tokens_per_second();

  const at::Tensor ids = at::arange(1024).view({4, 256}) + 1000;
  result["prefill_tokens_per_second"] = 1024 / best_seconds(3, [&] {
                                          KvCache cache = model->make_cache(4, 256);
                                          model->extend(cache, {.ids = ids, .mask = {}});
                                        });

  // 256 prompts, two shared beginnings of about 22 tokens, 8 tokens of their own.
  std::vector<std::vector<TokenId>> prompts;
  for (TokenId i = 0; i < 256; ++i) {
    std::vector<TokenId>& row = prompts.emplace_back();
    for (TokenId k = 0; k < 22; ++k) row.push_back(1000 + 50 * (i % 2) + k);
    for (TokenId k = 0; k < 5 + i % 7; ++k) row.push_back(2000 + 13 * i + k);
  }
  std::vector<Site> sites;
  for (int64_t k = 0; k + 1 < model->config().spec.layers(); ++k)
    sites.push_back(model->block_output(k));
  std::vector<at::Tensor> shared, alone;
  result["extraction_seconds"] =
      best_seconds(2, [&] { shared = last_token_activations(*model, prompts, sites); });
  alone = last_token_activations(*model, prompts, sites, {.share_prefixes = false});
  double worst = 0;
  for (size_t i = 0; i < sites.size(); ++i)
    worst = std::max(
        worst, ((shared[i] - alone[i]).norm(2, 1) / alone[i].norm(2, 1)).max().item<double>());
  result["sharing_difference"] = worst;
  return result;
}

}  // namespace

int main(int argc, char** argv) try {
  const std::vector<std::string> args(argv + 1, argv + argc);
  Json result;
  if (args.size() == 3 && args[0] == "import") {
    result["seconds"] = best_seconds(1, [&] { import_gguf(args[1], args[2]); });
  } else if (args.size() == 4 && args[0] == "run") {
    result = run(args[1], parse_json(read_text_file(args[2]), args[2]), args[3]);
  } else if (args.size() == 2 && args[0] == "speed") {
    at::set_num_threads(2);
    result = speed(args[1]);
  } else {
    throw UsageError("parity-model import SOURCE OUT | run MODEL REQUEST.json OUT | speed MODEL");
  }
  std::cout << result.dump() << "\n";
  return 0;
} catch (const std::exception& error) {
  std::cerr << "parity-model: " << error.what() << "\n";
  return 1;
}
