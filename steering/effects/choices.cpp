#include "steering/effects/choices.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "core/base/error.h"
#include "core/base/json_guard.h"
#include "core/base/text.h"
#include "core/io/records.h"
#include "models/language_model/encode.h"

namespace vyx::steering {
namespace {

std::vector<std::string> choices_of(const Json& json, std::string_view where) {
  const auto found = json.find("choices");
  if (found == json.end() || !found->is_array() || found->size() < 2)
    fail("{}: \"choices\" is no list of two or more; expected [\"…\", \"…\"]", where);
  std::vector<std::string> choices;
  std::set<std::string> known;
  for (const Json& choice : *found) {
    if (!choice.is_string() || choice.get_ref<const std::string&>().empty())
      fail("{}: \"choices\" holds {}, expected only text that is not empty", where,
           quote(choice.dump()));
    choices.push_back(choice.get<std::string>());
    if (!known.insert(choices.back()).second)
      fail("{}: \"choices\" holds {} twice; all must differ", where, quote(choices.back()));
  }
  return choices;
}

}  // namespace

std::vector<ChoiceItem> read_choice_items(const std::filesystem::path& path) {
  std::vector<ChoiceItem> items;
  for_each_record(
      path, {"question", "choices", "answer"}, [&](const Json& json, const std::string& where) {
        ChoiceItem item{.question = json_string(json, "question", where),
                        .choices = choices_of(json, where)};
        if (item.question.empty())
          fail("{}: \"question\" is empty; a choice needs something to answer", where);
        item.answer = static_cast<size_t>(
            json_integer(json, "answer", where, 0, static_cast<int64_t>(item.choices.size()) - 1));
        item.place = where;
        items.push_back(std::move(item));
      });
  if (items.empty())
    fail(
        "{}: holds no item; expected one line {{\"question\": \"…\", \"choices\": [\"…\", \"…\"], "
        "\"answer\": 0}} per item",
        path.string());
  return items;
}

ChoiceMeter::ChoiceMeter(models::LanguageModel& model, std::span<const ChoiceItem> items, bool chat,
                         int64_t first_block)
    : model_(model) {
  if (items.empty())
    fail("there are no questions to measure what the model knows with; give at least one");
  std::vector<std::vector<models::TokenId>> questions;             // [items]
  std::vector<std::vector<std::vector<models::TokenId>>> choices;  // [items][choices]
  std::map<size_t, std::vector<size_t>> by_count;                  // choices: items
  for (const ChoiceItem& item : items) {
    by_count[item.choices.size()].push_back(answers_.size());
    answers_.push_back(item.answer);
    tokens_ += questions.emplace_back(model.encode_prompt(item.question, chat)).size();
    auto& own = choices.emplace_back();
    std::vector<double>& bytes = bytes_.emplace_back();
    for (const std::string& choice : item.choices) {
      tokens_ += own.emplace_back(models::encode_text(model, chat ? choice : " " + choice)).size();
      bytes.push_back(static_cast<double>(choice.size()));
      model.require_context(
          static_cast<int64_t>(questions.back().size() + own.back().size()), 0,
          item.place.empty() ? fmt::format("item {}", answers_.size()) : item.place);
    }
    chance_ += 1 / static_cast<double>(item.choices.size() * items.size());
  }
  for (const auto& [count, members] : by_count) {
    std::vector<int64_t> lengths;
    for (const size_t member : members) {
      size_t longest = 0;
      for (const auto& choice : choices[member]) longest = std::max(longest, choice.size());
      lengths.push_back(static_cast<int64_t>(questions[member].size() + longest));
    }
    const auto rows = static_cast<int64_t>(count);
    for (std::vector<size_t>& batch :
         models::batches_by_length(lengths, std::max(kBatchTokens / rows, int64_t{1}))) {
      std::vector<std::vector<models::TokenId>> heads, tails;
      for (size_t& place : batch) {
        place = members[place];
        heads.push_back(questions[place]);
        tails.insert(tails.end(), choices[place].begin(), choices[place].end());
      }
      batches_.push_back({std::move(batch), ContinuationBatch(model, heads, tails, first_block)});
    }
  }
}

void ChoiceMeter::score(ItemBatch& batch, std::span<Scores> scores) {
  const at::Tensor likelihoods = batch.choices.log_likelihoods(
      model_, static_cast<int64_t>(scores.size()));  // [copies · choices]
  const auto* next = likelihoods.const_data_ptr<double>();
  for (Scores& copy : scores)
    for (const size_t i : batch.items)
      for (const double bytes : bytes_[i]) copy[i].push_back(*next++ / bytes);
}

std::vector<std::vector<double>> ChoiceMeter::scores() {
  Scores scores(answers_.size());
  for (ItemBatch& batch : batches_) score(batch, std::span(&scores, 1));
  return scores;
}

std::vector<double> ChoiceMeter::right(const Scores& scores) const {
  std::vector<double> right;
  for (size_t i = 0; i < scores.size(); ++i) {
    const double own = scores[i][answers_[i]];
    right.push_back(std::count_if(scores[i].begin(), scores[i].end(),
                                  [&](double score) { return own > score; }) +
                        1 ==
                    static_cast<int64_t>(scores[i].size()));
  }
  return right;
}

std::vector<double> ChoiceMeter::right() {
  return right(scores());
}

std::vector<std::vector<double>> ChoiceMeter::right(const Site& site,
                                                    std::span<const Edit* const> edits) {
  std::vector<Scores> scores(edits.size(), Scores(answers_.size()));
  for (ItemBatch& batch : batches_) {
    batch.choices.prepare(model_);
    for_each_run(model_, site, edits, batch.choices.tokens(), [&](size_t first, int64_t count) {
      score(batch, std::span(scores).subspan(first, static_cast<size_t>(count)));
    });
  }
  std::vector<std::vector<double>> results;
  for (const Scores& each : scores) results.push_back(right(each));
  return results;
}

}  // namespace vyx::steering
