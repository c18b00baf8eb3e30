#include "tests/torch_support.h"

#include "steering/effects/choices.h"

#include <array>
#include <cmath>

#include "core/io/files.h"
#include "steering/edits/steer.h"
#include "tests/steering/planted_model.h"

namespace {

using namespace vyx::steering;
using namespace vyx::test;
using vyx::models::LanguageModel;

// Of different lengths and numbers of choices, so that every batch is padded on both sides.
const std::vector<ChoiceItem> kItems = {
    {"Which is it?", {"GOOD DAY", "bad day", "SO SO", "so"}, 0},
    {"A", {"no", "YES"}, 1},
    {"Tell me of the long road home.", {"we wept on", "we", "WE SANG", "THE END é"}, 2},
    {"And", {"b", "B", "c"}, 1}};

/// Log-probability per byte of `choice` behind `question`, from the whole sequence alone.
double score(LanguageModel& model, const std::string& question, const std::string& choice,
             bool chat) {
  std::vector<vyx::models::TokenId> tokens = model.encode_prompt(question, chat);
  const auto own = model.tokenizer().encode(chat ? choice : " " + choice);
  tokens.insert(tokens.end(), own.begin(), own.end());
  const std::array rows{tokens};
  const at::Tensor each = model.token_log_probabilities(
      vyx::models::make_batch(rows, vyx::models::Padding::right, 0))[0];  // [seq − 1]
  const double sum = each.slice(0, each.size(0) - static_cast<int64_t>(own.size()))
                         .to(at::kDouble)
                         .sum()
                         .item<double>();
  return sum / static_cast<double>(choice.size());
}

std::string file_error(std::string_view text) {
  const TemporaryFolder folder;
  vyx::write_file(folder / "choices.jsonl", text);
  return error_of([&] { read_choice_items(folder / "choices.jsonl"); });
}

}  // namespace

TEST_CASE("[steering.choices] a score is that of each choice alone, a byte, padding apart") {
  auto model = planted_model();
  for (const bool chat : {false, true}) {
    CAPTURE(chat);
    ChoiceMeter meter(model, kItems, chat);
    const std::vector<WeightedVector> vectors = {{vector_at({"model.layers.0:output"}), 1.5, ""}};
    const Steering steering = steer(model, vectors, {});
    const auto scores = meter.scores();
    REQUIRE(scores.size() == kItems.size());
    for (size_t i = 0; i < kItems.size(); ++i) {
      CAPTURE(i);
      REQUIRE(scores[i].size() == kItems[i].choices.size());
      for (size_t j = 0; j < scores[i].size(); ++j)
        CHECK(scores[i][j] ==
              doctest::Approx(score(model, kItems[i].question, kItems[i].choices[j], chat))
                  .epsilon(1e-4));
    }
  }
}

TEST_CASE("[steering.choices] more items than a batch holds are measured as each alone") {
  auto model = planted_model();
  std::vector<ChoiceItem> many;
  for (size_t i = 0; i < 90; ++i) {
    ChoiceItem item{.question = std::string(1 + 3 * (i % 30), 'x'), .choices = {"A", "b"}};
    if (i % 2 == 1) item.choices.push_back("Cc");
    many.push_back(item);
  }
  ChoiceMeter meter(model, many, false);
  const auto scores = meter.scores();
  for (const size_t i : {size_t{0}, size_t{29}, size_t{89}}) {
    CAPTURE(i);
    for (size_t j = 0; j < many[i].choices.size(); ++j)
      CHECK(
          scores[i][j] ==
          doctest::Approx(score(model, many[i].question, many[i].choices[j], false)).epsilon(1e-4));
  }
}

TEST_CASE("[steering.choices] an edit changes what is right, and only the best choice is") {
  auto model = planted_model();
  ChoiceMeter meter(model, kItems, true);
  const auto with = [&](double coefficient) {
    const std::vector<WeightedVector> vectors = {
        {vector_at({"model.layers.0:output", "model.layers.1:output"}), coefficient, ""}};
    const Steering steering = steer(model, vectors, {});
    return meter.right();
  };
  CHECK(with(6)[1] == 1);
  CHECK(with(6)[3] == 1);
  CHECK(with(-6) == std::vector<double>{0, 0, 0, 0});
  const auto scores = meter.scores();
  const std::vector<double> right = meter.right();
  for (size_t i = 0; i < kItems.size(); ++i)
    CHECK(right[i] == (std::max_element(scores[i].begin(), scores[i].end()) - scores[i].begin() ==
                       static_cast<int64_t>(kItems[i].answer)));
}

TEST_CASE(
    "[steering.choices] an edit of generated tokens alone is measured, and the first token of a "
    "choice is not one") {
  auto model = planted_model();
  ChoiceMeter meter(model, kItems, true);
  const auto before = meter.scores();
  const std::vector<WeightedVector> vectors = {{vector_at({"model.layers.0:output"}), 2, ""}};
  const Steering steering = steer(model, vectors, {.positions = vyx::Positions::generated});
  const auto after = meter.scores();
  CHECK(std::fabs(after[0][0] - before[0][0]) > 1e-3);
  CHECK(after[3][1] ==
        doctest::Approx(before[3][1]).epsilon(1e-5));  // "B" is predicted from the question
}

TEST_CASE("[steering.choices] a model that knows nothing is right in none, not in the first") {
  auto model = planted_model();
  // Two spellings of one score: the same token sequence twice would be refused by the reader, so
  // that the items are made here.
  const std::vector<ChoiceItem> same = {{"Q", {"A", "A"}, 0}};
  CHECK(ChoiceMeter(model, same, false).right() == std::vector<double>{0});
}

TEST_CASE("[steering.choices] tokens and chance are counted") {
  auto model = planted_model();
  const ChoiceMeter meter(model, kItems, false);
  CHECK(meter.items() == 4);
  CHECK(meter.chance() == doctest::Approx((1.0 / 4 + 1.0 / 2 + 1.0 / 4 + 1.0 / 3) / 4));
  uint64_t tokens = 0;
  for (const ChoiceItem& item : kItems) {
    tokens += model.encode_prompt(item.question).size();
    for (const std::string& choice : item.choices)
      tokens += model.tokenizer().encode(" " + choice).size();
  }
  CHECK(meter.tokens() == tokens);
  CHECK(contains(error_of([&] { ChoiceMeter(model, {}, false); }), "no questions"));
}

TEST_CASE(
    "[steering.choices] a file of items is read, and what is wrong with one is named with its "
    "line") {
  const TemporaryFolder folder;
  vyx::write_file(folder / "choices.jsonl",
                  "{\"question\": \"Two and two?\", \"choices\": [\"three\", \"four\"], "
                  "\"answer\": 1, \"topic\": \"sums\"}\n\n");
  const std::vector<ChoiceItem> items = read_choice_items(folder / "choices.jsonl");
  REQUIRE(items.size() == 1);
  CHECK(items[0].question == "Two and two?");
  CHECK(items[0].choices == std::vector<std::string>{"three", "four"});
  CHECK(items[0].answer == 1);

  CHECK(contains(file_error(""), "holds no item"));
  CHECK(contains(file_error("\n{\"question\": \"Q\", \"choices\": [\"a\"], \"answer\": 0}"),
                 "choices.jsonl:2: \"choices\" is no list"));
  CHECK(contains(file_error(R"({"question": "Q", "choices": "ab", "answer": 0})"),
                 "is no list of two or more"));
  CHECK(
      contains(file_error(R"({"question": "Q", "choices": ["a", ""], "answer": 0})"), "not empty"));
  CHECK(contains(file_error(R"({"question": "Q", "choices": ["a", 1], "answer": 0})"),
                 "expected only text"));
  CHECK(contains(file_error(R"({"question": "Q", "choices": ["a", "a"], "answer": 0})"),
                 "\"a\" twice"));
  CHECK(contains(file_error(R"({"question": "Q", "choices": ["a", "b"], "answer": 2})"), "answer"));
  CHECK(contains(file_error(R"({"question": "", "choices": ["a", "b"], "answer": 0})"),
                 "\"question\" is empty"));
  CHECK(contains(file_error(R"({"choices": ["a", "b"], "answer": 0})"), "question"));
}

TEST_CASE("[steering.choices] an item beyond the context is refused by its place in the file") {
  LanguageModel model = planted_model();
  const std::vector<ChoiceItem> items = {
      {"How?", {"well", std::string(600, 'x')}, 0, "choices.jsonl:3"}};
  CHECK(contains(error_of([&] { ChoiceMeter(model, items, /*chat=*/false); }),
                 "choices.jsonl:3: found 605 tokens, expected at most the context length of 512"));
}
