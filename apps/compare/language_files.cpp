#include "apps/compare/language_files.h"

#include <fmt/format.h>

#include <filesystem>
#include <utility>

#include "core/base/error.h"
#include "core/io/digest.h"
#include "core/io/files.h"
#include "models/activations/text_source.h"
#include "sae/latents/model_site.h"

namespace vyx::compare {
namespace {

Site find_site(models::LanguageModel& model, const sae::Autoencoder& sae,
               const LanguageFiles& files) {
  sae::Autoencoder placed = sae;
  if (!files.site.empty()) placed.config.sites = {files.site};
  return sae::site_in(model, placed, files.sae, files.allow_other_model);
}

NamedPairs read_pairs(const std::string& file, std::string name) {
  return {std::move(name), steering::read_continuation_pairs(file)};
}

/// Documents, with a blank line between them, until there are enough.
std::string read_neutral(const std::string& file) {
  constexpr size_t kEnough = 1u << 20;  // bytes: some 200,000 tokens
  models::TextSource source({file});
  std::string text, document;
  while (text.size() < kEnough && source.next(document)) text += document + "\n\n";
  return text;
}

/// What a file of held-out pairs is about: "formal" of formal_heldout.jsonl.
std::string concept_of(const std::filesystem::path& path) {
  constexpr std::string_view kEnd = "_heldout";
  std::string name = path.stem().string();
  if (name.size() > kEnd.size() && name.ends_with(kEnd)) name.resize(name.size() - kEnd.size());
  return name;
}

}  // namespace

LanguageInputs read_inputs(models::LanguageModel& model, const sae::Autoencoder& sae,
                           steering::ContrastSet contrast, const LanguageFiles& files) {
  LanguageInputs inputs{.site = find_site(model, sae, files),
                        .contrast = std::move(contrast),
                        .heldout = read_pairs(files.heldout, files.heldout),
                        .neutral = read_neutral(files.neutral)};
  inputs.instruction = files.instruction.empty() ? inputs.contrast.instruction : files.instruction;
  for (const std::string& other : files.others)
    inputs.others.push_back(read_pairs(other, concept_of(other)));
  if (!files.ood.empty()) inputs.ood = read_pairs(files.ood, files.ood);
  if (!files.choices.empty())
    inputs.choices = {files.choices, steering::read_choice_items(files.choices)};
  return inputs;
}

Json provenance_of(const sae::Autoencoder& sae, const std::string& source) {
  std::string digests;
  sae.weights.visit([&](const char* name, const at::Tensor& weights) {
    const at::Tensor values = weights.contiguous();
    digests += fmt::format(
        "{} {}\n", name,
        sha256({static_cast<const std::byte*>(values.const_data_ptr()), values.nbytes()}));
  });
  return {{"source", source},
          {"sha256", sha256(digests)},
          {"architecture", sae::name_of(sae.config.architecture)},
          {"latents", sae.config.latents},
          {"k", sae.config.k}};
}

}  // namespace vyx::compare
