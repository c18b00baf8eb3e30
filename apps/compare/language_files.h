// What a comparison on a language model reads: files, and what is said of them in the report.
#pragma once
#include <string>
#include <vector>

#include "apps/compare/language_subject.h"
#include "sae/autoencoder/autoencoder.h"

namespace vyx::compare {

struct LanguageFiles {
  std::string sae, heldout, neutral;
  std::string ood, choices;         // "": not measured
  std::string site;                 // "": the autoencoder's own
  std::string instruction;          // "": the contrast set's
  std::vector<std::string> others;  // other concepts' continuations
  bool allow_other_model = false;   // take an autoencoder that was trained on another model
};

/// Reads them; the formats are in apps/data/README.md. Throws Error naming file and line, or the
/// site that is missing.
LanguageInputs read_inputs(models::LanguageModel& model, const sae::Autoencoder& sae,
                           steering::ContrastSet contrast, const LanguageFiles& files);

/// {"source", "sha256", "architecture", "latents", "k"}; the digest is of the weights, whatever
/// file they came from.
Json provenance_of(const sae::Autoencoder& sae, const std::string& source);

}  // namespace vyx::compare
