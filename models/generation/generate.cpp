#include "models/generation/generate.h"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <array>
#include <utility>

#include "core/base/error.h"
#include "core/base/stopwatch.h"
#include "core/base/text.h"
#include "core/base/utf8_stream.h"
#include "models/generation/diagnosis.h"

namespace vyx::models {
namespace {

/// What ends a row: texts, and tokens that are not in the text.
struct Stops {
  std::vector<std::string> texts;
  std::vector<TokenId> tokens;
};

Stops stops_of(const Tokenizer& tokenizer, const std::vector<std::string>& given) {
  Stops stops;
  for (const std::string& stop : given) {
    const std::vector<TokenId> tokens = tokenizer.encode(stop);
    const auto special = std::find_if(tokens.begin(), tokens.end(),
                                      [&](TokenId token) { return tokenizer.is_special(token); });
    if (special == tokens.end()) {
      stops.texts.push_back(stop);
    } else if (tokens.size() == 1) {
      stops.tokens.push_back(*special);
    } else {
      throw UsageError(fmt::format(
          "the stop text {} holds the control token {} among others; give that one alone, since "
          "control tokens are not in the text",
          quote(stop), quote(tokenizer.bytes(*special))));
    }
  }
  return stops;
}

bool is_among(TokenId token, const std::vector<TokenId>& tokens) {
  return std::find(tokens.begin(), tokens.end(), token) != tokens.end();
}

/// The bytes at the end of `text` that may be the beginning of a stop string.
size_t held_back(std::string_view text, const std::vector<std::string>& stops) {
  size_t held = 0;
  for (const std::string& stop : stops) {
    for (size_t length = std::min(stop.size() - 1, text.size()); length > held; --length) {
      if (text.ends_with(std::string_view(stop).substr(0, length))) held = length;
    }
  }
  return held;
}

/// One prompt's continuation: its sampler, its text so far, and whether and why it has ended.
class Row {
 public:
  Row(const LanguageModel& model, const GenerateOptions& options, const Stops& stops,
      std::span<const TokenId> prompt, size_t index)
      : model_(model),
        options_(options),
        stops_(stops),
        sampler_(sampling_of(options, index)),
        seen_(prompt.begin(), prompt.end()) {}

  bool done() const { return !result_.stop_reason.empty(); }
  std::span<const TokenId> tokens() const { return result_.tokens; }
  TokenId last_token() const { return result_.tokens.back(); }
  Generation take() { return std::move(result_); }

  /// Chooses the next token from `logits` [vocabulary]; `on_text` gets what has become certain.
  void advance(std::span<const float> logits,
               const std::function<bool(std::string_view)>& on_text) {
    const TokenId token = sampler_.sample(logits, seen_);
    seen_.push_back(token);
    result_.tokens.push_back(token);
    const bool is_end = is_among(token, model_.config().tokens.ends);
    const bool is_known =
        token <
        model_.tokenizer().vocabulary_size();  // a padded vocabulary has ids that spell nothing
    if (is_known && !model_.tokenizer().is_special(token))
      append(text_.push(model_.tokenizer().bytes(token)));
    if (!done() && is_among(token, stops_.tokens)) result_.stop_reason = "stop";
    if (!done() && is_end && !options_.ignore_end) result_.stop_reason = "end";
    if (!done() && static_cast<int64_t>(result_.tokens.size()) == options_.max_tokens)
      result_.stop_reason = "length";
    if (done()) append(text_.finish());
    show(on_text);
  }

 private:
  static SamplingOptions sampling_of(const GenerateOptions& options, size_t index) {
    SamplingOptions sampling = options.sampling;
    sampling.seed += index;
    return sampling;
  }

  /// Adds to the text, and ends it before the first stop string.
  void append(std::string_view piece) {
    if (piece.empty() || stopped_) return;
    const size_t old_size = result_.text.size();
    result_.text += piece;
    size_t first = std::string::npos;
    for (const std::string& stop : stops_.texts)
      first =
          std::min(first, result_.text.find(stop, old_size - std::min(old_size, stop.size() - 1)));
    if (first == std::string::npos) return;
    result_.text.resize(first);
    result_.stop_reason = "stop";
    stopped_ = true;
  }

  void show(const std::function<bool(std::string_view)>& on_text) {
    if (!on_text) return;
    const std::string_view text = result_.text;
    const size_t certain = text.size() - (done() ? 0 : held_back(text, stops_.texts));
    if (certain <= shown_) return;
    const std::string_view piece = text.substr(shown_, certain - shown_);
    shown_ = certain;
    if (on_text(piece) || done()) return;
    result_.text.resize(certain);
    result_.stop_reason = "callback";
  }

  const LanguageModel& model_;
  const GenerateOptions& options_;
  const Stops& stops_;
  Sampler sampler_;
  std::vector<TokenId> seen_;  // prompt and generated
  Utf8Stream text_;
  Generation result_;
  size_t shown_ = 0;      // bytes of the text that on_text has had
  bool stopped_ = false;  // by a stop string
};

void check_lengths(const LanguageModel& model, std::span<const std::vector<TokenId>> prompts,
                   const GenerateOptions& options) {
  if (prompts.empty()) fail("there is no prompt; give at least one");
  for (size_t i = 0; i < prompts.size(); ++i) {
    if (prompts[i].empty()) fail("prompt {} has no token; give it some text", i + 1);
    model.require_context(static_cast<int64_t>(prompts[i].size()), options.max_tokens,
                          fmt::format("prompt {}", i + 1));
  }
}

/// The last tokens of the rows, [rows, 1]; rows that have ended are padding, so that nothing edits
/// them.
Batch next_batch(const std::vector<Row>& rows) {
  const auto count = static_cast<int64_t>(rows.size());
  Batch batch{.ids = at::empty({count, 1}, at::kLong), .mask = {}};
  for (size_t r = 0; r < rows.size(); ++r) {
    batch.ids.mutable_data_ptr<int64_t>()[r] = rows[r].last_token();
    if (!rows[r].done()) continue;
    if (!batch.mask.defined()) batch.mask = at::ones({count, 1}, at::kBool);
    batch.mask.mutable_data_ptr<bool>()[r] = false;
  }
  return batch;
}

}  // namespace

void validate(const GenerateOptions& options) {
  if (options.max_tokens < 1)
    throw UsageError(fmt::format("max_tokens = {}; expected at least 1", options.max_tokens));
  for (const std::string& stop : options.stop) {
    if (stop.empty()) throw UsageError("a stop string is empty; expected some text");
  }
  validate(options.sampling);
}

Generations generate(LanguageModel& model, std::span<const std::vector<TokenId>> prompts,
                     const GenerateOptions& options) {
  validate(options);
  check_lengths(model, prompts, options);
  const Stops stops = stops_of(model.tokenizer(), options.stop);
  const at::NoGradGuard no_grad;
  Generations result;
  GenerationStatistics& statistics = result.statistics;
  std::vector<Row> rows;
  for (size_t r = 0; r < prompts.size(); ++r) {
    rows.emplace_back(model, options, stops, prompts[r], r);
    statistics.prompt_tokens += static_cast<int64_t>(prompts[r].size());
  }
  const auto advance = [&](const at::Tensor& hidden) {  // [rows, seq, d_model]
    const at::Tensor logits =
        model.head(hidden.slice(1, -1)).squeeze(1).cpu().contiguous();  // [rows, vocabulary]
    for (size_t r = 0; r < rows.size(); ++r) {
      if (rows[r].done()) continue;
      const auto vocabulary = static_cast<size_t>(logits.size(1));
      if (const char* problem = problem_of(logits[static_cast<int64_t>(r)]))
        fail("the model's logits are {}{}", problem,
             origin_of_problem(model, prompts[r], rows[r].tokens()));
      rows[r].advance({logits.const_data_ptr<float>() + r * vocabulary, vocabulary},
                      r == 0 ? options.on_text : nullptr);
      ++statistics.generated_tokens;
    }
  };

  Stopwatch stopwatch;
  // Padded on the left, the last position is every row's last token.
  const Batch batch = make_batch(prompts, Padding::left, model.pad_token());
  KvCache cache = model.make_cache(static_cast<int64_t>(prompts.size()),
                                   batch.ids.size(1) + options.max_tokens);
  advance(model.extend(cache, batch));
  statistics.prompt_seconds = stopwatch.lap();
  const int64_t first_tokens = statistics.generated_tokens;
  while (!std::all_of(rows.begin(), rows.end(), [](const Row& row) { return row.done(); }))
    advance(model.extend(cache, next_batch(rows), /*generated=*/true));
  statistics.generation_seconds = stopwatch.lap();
  statistics.decoded_tokens = statistics.generated_tokens - first_tokens;

  for (Row& row : rows) result.rows.push_back(row.take());
  return result;
}

Generations generate(LanguageModel& model, std::string_view prompt, const GenerateOptions& options,
                     bool chat) {
  const std::array prompts{model.encode_prompt(prompt, chat)};
  return generate(model, prompts, options);
}

}  // namespace vyx::models
