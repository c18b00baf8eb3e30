// A choice benchmark by likelihood: what a model knows, and what is left of it under an edit.
#pragma once
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "models/language_model/language_model.h"
#include "steering/effects/likelihood.h"

namespace vyx::steering {

struct ChoiceItem {
  std::string question;
  std::vector<std::string> choices;  // two or more that differ
  size_t answer = 0;                 // place of the right one
  std::string place = {};            // where it stands, for errors: "choices.jsonl:2"
};

/// JSON Lines of {"question": "…", "choices": ["…", "…"], "answer": 0}, or a JSON array of such
/// objects (core/io/records.h), with further keys ignored.
/// Throws Error naming file and line for an empty question or choice, fewer than two choices, equal
/// ones, and an answer that is not the place of one; and the file when it holds no item.
std::vector<ChoiceItem> read_choice_items(const std::filesystem::path& path);

/// Which choice the model, with what is hooked in it now, would give: the one of the largest
/// log-probability per UTF-8 byte behind the question, teacher-forced. A choice is divided by its
/// bytes, so that it is not worse for being long, however a tokenizer cuts it (acc_norm of
/// https://github.com/EleutherAI/lm-evaluation-harness). With `chat` the question is a user message
/// and the choice the reply, without it a space stands between them.
class ChoiceMeter {
 public:
  /// `first_block`: as ContinuationBatch. Throws Error when there is no item.
  ChoiceMeter(models::LanguageModel& model, std::span<const ChoiceItem> items, bool chat,
              int64_t first_block = 0);

  /// Nats per byte: [items][choices of the item].
  std::vector<std::vector<double>> scores();
  /// [items]: 1 where the right choice's score is above all others', else 0.
  std::vector<double> right();
  /// As PreferenceMeter::measure: [edits][items].
  std::vector<std::vector<double>> right(const Site& site, std::span<const Edit* const> edits);

  size_t items() const { return answers_.size(); }
  uint64_t tokens() const { return tokens_; }  // that one measurement runs, padding apart
  double chance() const { return chance_; }    // the share that guessing gets right

 private:
  struct ItemBatch {
    std::vector<size_t> items;  // of as many choices and like length
    ContinuationBatch choices;
  };
  using Scores = std::vector<std::vector<double>>;  // [items][choices of the item]
  /// Adds each copy's scores of the batch's items.
  void score(ItemBatch& batch, std::span<Scores> scores);
  std::vector<double> right(const Scores& scores) const;

  models::LanguageModel& model_;
  std::vector<size_t> answers_;             // [items]
  std::vector<std::vector<double>> bytes_;  // [items][choices]
  std::vector<ItemBatch> batches_;
  uint64_t tokens_ = 0;
  double chance_ = 0;
};

}  // namespace vyx::steering
