#include "models/generation/diagnosis.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <fmt/format.h>

#include <array>
#include <vector>

#include "core/hooks/activation_reader.h"

namespace vyx::models {
namespace {

/// The first block whose output has a norm that is not finite in float32, which the model's norms
/// are computed in; -1 for none.
int64_t first_beyond_range(LanguageModel& model, std::span<const TokenId> prompt,
                           std::span<const TokenId> generated) {
  std::vector<Site> sites;
  for (int64_t block = 0; block < model.config().spec.layers(); ++block)
    sites.push_back(model.block_output(block));
  const auto is_finite = [](const Site& site, const c10::IValue& value) {
    return activation_at(site, value).to(at::kFloat).square().sum(-1).isfinite().all().cpu();
  };
  const auto run = [&] {
    KvCache cache = model.make_cache(1, static_cast<int64_t>(prompt.size() + generated.size()));
    for (const auto& [tokens, own] : {std::pair{prompt, false}, std::pair{generated, true}}) {
      if (tokens.empty()) continue;
      const std::array row{std::vector<TokenId>(tokens.begin(), tokens.end())};
      model.extend(cache, make_batch(row, Padding::left, model.pad_token()), own);
    }
  };
  const auto finite = read_calls(model.module(), sites, is_finite, run);  // [blocks][runs]: bool
  for (size_t block = 0; block < finite.size(); ++block)
    for (const at::Tensor& each : finite[block])
      if (!each.item<bool>()) return static_cast<int64_t>(block);
  return -1;
}

}  // namespace

const char* problem_of(const at::Tensor& logits) {
  if (logits.isnan().any().item<bool>()) return "NaN";
  const at::Tensor highest = logits.max();
  if (!highest.isfinite().item<bool>()) return "infinite";
  if (logits.numel() > 1 && at::equal(highest, logits.min())) return "one number for every token";
  return nullptr;
}

std::string origin_of_problem(LanguageModel& model, std::span<const TokenId> prompt,
                              std::span<const TokenId> generated) {
  const int64_t block = first_beyond_range(model, prompt, generated);
  const std::string text = block < 0
                               ? ""
                               : fmt::format("; the output of {} is the first beyond what {} holds",
                                             model.block_output(block).path, model.config().dtype);
  std::vector<TokenId> all(prompt.begin(), prompt.end());
  all.insert(all.end(), generated.begin(), generated.end());
  const at::Tensor unhooked =  // [vocabulary]
      model.unhooked_logits(make_batch(std::array{all}, Padding::left, model.pad_token()))[0][-1];
  if (problem_of(unhooked) == nullptr)
    return text + "; without the edits they are as they should be: give a smaller coefficient";
  return text + std::string(range_hint(model.config()));
}

}  // namespace vyx::models
