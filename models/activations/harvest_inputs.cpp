#include "models/activations/harvest_inputs.h"

#include <ATen/TensorOperators.h>

#include <algorithm>
#include <limits>
#include <span>
#include <utility>

#include "core/base/error.h"
#include "core/io/digest.h"
#include "models/language_model/encode.h"

namespace vyx::models {
namespace {

constexpr const char* kInputCursor = "harvest's cursor";

/// Of the tokens' bytes by id: two tokenizers that agree here give the same meaning to a row of
/// tokens.
std::string vocabulary_digest(const Tokenizer& tokenizer) {
  std::string all;
  for (TokenId token = 0; token < tokenizer.vocabulary_size(); ++token) {
    const std::string bytes = tokenizer.decode(std::vector<TokenId>{token});
    all += fmt::format("{}:{},", bytes.size(), bytes);
  }
  return sha256(all);
}

class TextInput : public HarvestInput {
 public:
  TextInput(LanguageModel& model, TextSource source, const TextInputOptions& options)
      : model_(model),
        options_(options),
        rows_(std::max<int64_t>(options.batch_tokens / options.context, 1)),
        packer_(std::move(source), model.tokenizer(),
                {.context = options.context,
                 .begin_token = begin_token(model),
                 .pad_token = model.pad_token(),
                 .special_in_text = options.special_in_text}) {}

  HookedModule& module() override { return model_.module(); }

  std::optional<HarvestForward> next() override {
    const auto batch = packer_.next(rows_);
    if (!batch) return std::nullopt;
    return HarvestForward{
        .call = model_.call({.ids = batch->ids, .segments = batch->segments}),
        .keywords = {},
        .facts = {.real = batch->segments.defined() ? batch->segments != 0 : at::Tensor(),
                  .special = batch->special,
                  .tokens = batch->ids}};
  }

  uint64_t pass(uint64_t forwards) override {
    uint64_t passed = 0;
    while (passed < forwards && packer_.next(rows_)) ++passed;
    return passed;
  }

  Json cursor() const override { return to_json(packer_.cursor()); }
  void seek(const Json& cursor) override {
    packer_.seek(cursor.is_null() ? PackingCursor{}
                                  : packing_cursor_from_json(cursor, kInputCursor));
  }
  std::string where() const override { return packer_.source().where(); }

  Json provenance() const override {
    const auto& config = model_.config();
    const auto& text = packer_.source().options();
    return {{"model", config.provenance.name},
            {"model_sha256", config.provenance.sha256},
            {"model_dtype", config.dtype},
            {"vocabulary_sha256", vocabulary_digest(model_.tokenizer())},
            {"text", packer_.source().provenance()},
            {"text_separator", text.separator},
            {"text_key", text.json_key},
            {"context", options_.context},
            {"batch_tokens", options_.batch_tokens},
            {"special_in_text", options_.special_in_text},
            {"device", model_.device().str()}};
  }

 private:
  LanguageModel& model_;
  TextInputOptions options_;
  int64_t rows_;  // of a forward
  Packer packer_;
};

class ArgumentInput : public HarvestInput {
 public:
  ArgumentInput(HookedModule module, std::function<std::optional<Arguments>(uint64_t)> arguments,
                Json provenance)
      : module_(std::move(module)),
        arguments_(std::move(arguments)),
        provenance_(std::move(provenance)) {}

  HookedModule& module() override { return module_; }

  std::optional<HarvestForward> next() override {
    auto arguments = arguments_(forward_);
    if (!arguments) return std::nullopt;
    ++forward_;
    return HarvestForward{
        .call = {.method = "forward", .arguments = std::move(*arguments), .tokens = {}},
        .keywords = {},
        .facts = {}};
  }

  uint64_t pass(uint64_t forwards) override {
    uint64_t passed = 0;
    for (; passed < forwards && arguments_(forward_); ++forward_) ++passed;
    return passed;
  }

  Json cursor() const override { return {{"forward", forward_}}; }
  void seek(const Json& cursor) override {
    forward_ = cursor.is_null()
                   ? 0
                   : static_cast<uint64_t>(json_integer(cursor, "forward", kInputCursor, 0,
                                                        std::numeric_limits<int64_t>::max()));
  }
  std::string where() const override { return fmt::format("forward {}", forward_); }
  Json provenance() const override { return provenance_; }

 private:
  HookedModule module_;
  std::function<std::optional<Arguments>(uint64_t)> arguments_;
  Json provenance_;
  uint64_t forward_ = 0;
};

}  // namespace

std::unique_ptr<HarvestInput> text_input(LanguageModel& model, TextSource source,
                                         const TextInputOptions& options) {
  if (options.context < 2 || options.context > model.config().context_length)
    fail("{}: found a context of {} tokens, expected 2 to {}", model.config().provenance.name,
         options.context, model.config().context_length);
  return std::make_unique<TextInput>(model, std::move(source), options);
}

std::unique_ptr<HarvestInput> argument_input(
    HookedModule module, std::function<std::optional<Arguments>(uint64_t)> arguments,
    Json provenance) {
  return std::make_unique<ArgumentInput>(std::move(module), std::move(arguments),
                                         std::move(provenance));
}

std::unique_ptr<HarvestInput> tensor_input(HookedModule module, std::vector<at::Tensor> inputs,
                                           int64_t batch, Json provenance) {
  if (inputs.empty()) fail("there are no inputs; give at least one tensor");
  if (batch < 1) fail("a batch of {} inputs; expected at least 1", batch);
  const int64_t count = inputs[0].dim() == 0 ? 0 : inputs[0].size(0);
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].dim() == 0 || inputs[i].size(0) != count || count == 0)
      fail("input {}: found {} rows, expected {}, as many as input 1", i + 1,
           inputs[i].dim() == 0 ? 0 : inputs[i].size(0), std::max<int64_t>(count, 1));
  }
  at::Tensor any = inputs[0];  // on the module's device, when it has any
  for (const at::Tensor& parameter : module.module().parameters()) {
    any = parameter;
    break;
  }
  auto arguments = [inputs = std::move(inputs), batch, count,
                    device = any.device()](uint64_t forward) -> std::optional<Arguments> {
    const auto begin = static_cast<int64_t>(forward) * batch;
    if (begin >= count) return std::nullopt;
    Arguments slices;
    for (const at::Tensor& input : inputs)
      slices.emplace_back(input.narrow(0, begin, std::min(batch, count - begin)).to(device));
    return slices;
  };
  return argument_input(std::move(module), std::move(arguments), std::move(provenance));
}

}  // namespace vyx::models
