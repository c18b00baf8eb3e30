#include "tests/torch_support.h"

#include <algorithm>
#include <limits>

#include "core/base/utf8_stream.h"
#include "models/generation/generate.h"
#include "tests/models/tiny_model.h"

using namespace vyx;
using namespace vyx::models;
using test::contains;
using test::error_of;
using test::tiny_model;
using Rows = std::vector<std::vector<TokenId>>;

namespace {

const Rows kPrompts = {{10, 20, 30}, {40}, {50, 60, 70, 80, 90, 100}};

/// A file whose model never ends by itself.
test::TinyGguf endless(uint64_t seed) {
  test::TinyGguf gguf({.seed = seed});
  gguf.erase("tokenizer.ggml.eos_token_id");
  return gguf;
}

Generation continue_alone(LanguageModel& model, const std::vector<TokenId>& prompt,
                          const GenerateOptions& options) {
  return generate(model, Rows{prompt}, options).rows[0];
}

}  // namespace

TEST_CASE("[models.generate] greedy takes the best token of a forward over everything so far") {
  LanguageModel model = tiny_model(endless(1));
  const Generation result = continue_alone(model, kPrompts[0], {.max_tokens = 8});
  std::vector<TokenId> tokens = kPrompts[0];
  for (int i = 0; i < 8; ++i)
    tokens.push_back(
        model.logits(make_batch(Rows{tokens}, Padding::right, 0))[0][-1].argmax().item<int64_t>());
  CHECK(result.tokens == std::vector<TokenId>(tokens.begin() + 3, tokens.end()));
  CHECK(result.stop_reason == "length");
}

TEST_CASE("[models.generate] each row of a batch gives what it gives alone, with its own seed") {
  LanguageModel model = tiny_model(endless(2));
  GenerateOptions options{.max_tokens = 12,
                          .sampling = {.temperature = 0.8, .top_k = 50, .top_p = 0.95, .seed = 5}};
  const Generations batch = generate(model, kPrompts, options);
  REQUIRE(batch.rows.size() == kPrompts.size());
  for (size_t r = 0; r < kPrompts.size(); ++r) {
    options.sampling.seed = 5 + r;
    CHECK(batch.rows[r].tokens == continue_alone(model, kPrompts[r], options).tokens);
  }
  CHECK(batch.statistics.prompt_tokens == 10);
  CHECK(batch.statistics.generated_tokens == 36);
  CHECK(batch.statistics.decoded_tokens == 33);
}

TEST_CASE("[models.generate] an end token ends its row and no other, and is not in the text") {
  test::TinyGguf gguf = endless(3);
  std::vector<std::vector<TokenId>> free_run;
  {
    LanguageModel model = tiny_model(gguf);
    for (const Generation& row : generate(model, kPrompts, {.max_tokens = 10}).rows)
      free_run.push_back(row.tokens);
  }
  const TokenId end = free_run[0][4];
  LanguageModel model =
      tiny_model(gguf.set("tokenizer.ggml.eos_token_id", static_cast<uint32_t>(end)));
  const Generations result = generate(model, kPrompts, {.max_tokens = 10});
  for (size_t r = 0; r < kPrompts.size(); ++r) {
    const auto first = std::find(free_run[r].begin(), free_run[r].end(), end);
    const bool ends = first != free_run[r].end();
    const std::vector<TokenId> expected(free_run[r].begin(), ends ? first + 1 : first);
    CHECK(result.rows[r].tokens == expected);
    CHECK(result.rows[r].stop_reason == (ends ? "end" : "length"));
  }
  CHECK(result.rows[0].stop_reason == "end");
  const Generations on = generate(model, kPrompts, {.max_tokens = 10, .ignore_end = true});
  CHECK(on.rows[0].tokens == free_run[0]);
}

TEST_CASE("[models.generate] the text is valid UTF-8, streamed in whole characters") {
  LanguageModel model = tiny_model(endless(4));
  std::vector<std::string> pieces;
  const GenerateOptions options{.max_tokens = 200,
                                .sampling = {.temperature = 3, .seed = 1},
                                .on_text = [&](std::string_view text) {
                                  pieces.emplace_back(text);
                                  return true;
                                }};
  const Generation result = continue_alone(model, kPrompts[0], options);
  std::string shown;
  for (const std::string& piece : pieces) {
    CHECK(valid_utf8(piece) == piece);
    shown += piece;
  }
  CHECK(shown == result.text);
  CHECK(result.text == valid_utf8(model.tokenizer().decode(result.tokens, /*skip_special=*/true)));
  CHECK(contains(result.text, "\uFFFD"));  // random bytes: the test has something to hold together
}

TEST_CASE(
    "[models.generate] a stop string across token borders ends the text before it and is never "
    "shown") {
  LanguageModel model = tiny_model(endless(5));
  GenerateOptions options{.max_tokens = 60, .sampling = {.temperature = 2, .seed = 3}};
  const Generation whole = continue_alone(model, kPrompts[0], options);
  // A stop string of three whole characters, from the middle of the text: bytes are tokens, so it
  // spans several.
  size_t begin = whole.text.size() / 2;
  const auto is_start = [&](size_t i) {
    return i >= whole.text.size() || (whole.text[i] & 0xC0) != 0x80;
  };
  while (!is_start(begin)) ++begin;
  size_t end = begin;
  for (int i = 0; i < 3; ++i) {
    do ++end;
    while (!is_start(end));
  }
  const std::string stop = whole.text.substr(begin, end - begin);
  std::string shown;
  options.stop = {"never to be found", stop};
  options.on_text = [&](std::string_view text) {
    shown += text;
    return true;
  };
  const Generation stopped = continue_alone(model, kPrompts[0], options);
  CHECK(stopped.stop_reason == "stop");
  CHECK(stopped.text == whole.text.substr(0, whole.text.find(stop)));
  CHECK(shown == stopped.text);
  CHECK(stopped.tokens.size() < whole.tokens.size());
}

TEST_CASE("[models.generate] text that only might have been a stop string is shown in the end") {
  LanguageModel model = tiny_model(endless(5));
  GenerateOptions options{.max_tokens = 30, .sampling = {.temperature = 2, .seed = 3}};
  const std::string whole = continue_alone(model, kPrompts[0], options).text;
  std::string shown;
  options.stop = {whole.substr(whole.size() - 4) + "and more"};
  options.on_text = [&](std::string_view text) {
    shown += text;
    return true;
  };
  CHECK(continue_alone(model, kPrompts[0], options).text == whole);
  CHECK(shown == whole);
}

TEST_CASE("[models.generate] a callback may stop, of the first row") {
  LanguageModel model = tiny_model(endless(6));
  int calls = 0;
  const GenerateOptions options{.max_tokens = 50,
                                .on_text = [&](std::string_view) { return ++calls < 3; }};
  const Generations result = generate(model, kPrompts, options);
  CHECK(calls == 3);
  CHECK(result.rows[0].stop_reason == "callback");
  CHECK(result.rows[1].stop_reason == "length");
}

TEST_CASE("[models.generate] seeds make the difference") {
  LanguageModel model = tiny_model(endless(7));
  const auto tokens = [&](uint64_t seed) {
    return continue_alone(model, kPrompts[0],
                          {.max_tokens = 20, .sampling = {.temperature = 1.5, .seed = seed}})
        .tokens;
  };
  CHECK(tokens(1) == tokens(1));
  CHECK(tokens(1) != tokens(2));
}

TEST_CASE("[models.generate] what cannot be generated is refused") {
  LanguageModel model = tiny_model();
  CHECK(contains(error_of([&] { generate(model, Rows{}, {}); }), "no prompt"));
  CHECK(contains(error_of([&] { generate(model, Rows{{1}, {}}, {}); }), "prompt 2 has no token"));
  for (const int64_t many : {int64_t{600}, std::numeric_limits<int64_t>::max()})
    CHECK(contains(error_of([&] { generate(model, Rows{{1}}, {.max_tokens = many}); }),
                   "context length of 512"));
  CHECK_THROWS_AS(generate(model, Rows{{1}}, {.max_tokens = 0}), UsageError);
  CHECK_THROWS_AS(generate(model, Rows{{1}}, {.stop = {""}}), UsageError);
}

TEST_CASE("[models.generate] a stop text that is a control token ends there, as no end does") {
  test::TinyGguf gguf = endless(3);
  LanguageModel model = tiny_model(gguf);
  const GenerateOptions free{.max_tokens = 4, .ignore_end = true};
  const std::vector<TokenId> said = continue_alone(model, kPrompts[0], free).tokens;
  REQUIRE(said.size() == 4);
  // What the third token is called is no matter to the model.
  for (auto& [key, value] : gguf.metadata) {
    if (key != "tokenizer.ggml.tokens" && key != "tokenizer.ggml.token_type") continue;
    if (auto* types = std::get_if<std::vector<int32_t>>(&std::get<GgufArray>(value)))
      (*types)[static_cast<size_t>(said[2])] = 3;
    if (auto* tokens = std::get_if<std::vector<std::string>>(&std::get<GgufArray>(value))) {
      (*tokens)[static_cast<size_t>(said[2])] = "<|stop|>";
    }
  }
  LanguageModel marked =
      tiny_model(gguf.set("tokenizer.ggml.merges", GgufArray(std::vector<std::string>())));
  GenerateOptions options = free;
  options.stop = {"<|stop|>"};
  const Generation stopped = continue_alone(marked, kPrompts[0], options);
  CHECK(stopped.stop_reason == "stop");
  const auto first = std::find(said.begin(), said.end(), said[2]);
  CHECK(stopped.tokens == std::vector<TokenId>(said.begin(), first + 1));
  options.stop = {"so<|stop|>"};
  CHECK_THROWS_AS(continue_alone(marked, kPrompts[0], options), UsageError);
}
