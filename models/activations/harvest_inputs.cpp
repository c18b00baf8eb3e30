#include "models/activations/harvest_inputs.h"

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <limits>
#include <span>
#include <utility>

#include "core/base/error.h"
#include "core/base/random.h"
#include "core/hooks/module_state.h"
#include "core/io/digest.h"
#include "models/language_model/encode.h"
#include "models/language_model/forward_scope.h"

namespace vyx::models {
namespace {

constexpr const char* kInputCursor = "harvest's cursor";
constexpr uint64_t kForwardStream = 4;  // of random_bits

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

/// Forwards by their number; nullopt behind the last. Of `count` examples, 0 if that is unknown,
/// each forward has `batch`.
struct NumberedForwards {
  std::function<std::optional<HarvestForward>(uint64_t forward)> at;
  int64_t batch = 0, count = 0;
};

/// Forwards of any module. Those of one that keeps state from run to run begin with a fresh one,
/// run to their end, and are run again to get to a place among them.
class ModuleInput : public HarvestInput {
 public:
  ModuleInput(HookedModule module, NumberedForwards forwards, uint64_t seed, Json provenance)
      : module_(std::move(module)),
        state_(module_.module()),
        forwards_(std::move(forwards)),
        seed_(seed),
        provenance_(std::move(provenance)) {}

  HookedModule& module() override { return module_; }

  std::optional<HarvestForward> next() override {
    find_out_about_state();
    auto forward = numbered(forward_);
    if (forward) ++forward_;
    return forward;
  }

  uint64_t pass(uint64_t forwards) override {
    find_out_about_state();
    uint64_t passed = 0;
    for (; passed < forwards; ++passed, ++forward_) {
      auto forward = numbered(forward_);
      if (!forward) break;
      if (keeps_state_) run(std::move(*forward));
    }
    return passed;
  }

  Json cursor() const override {
    Json cursor{{"forward", forward_}, {"keeps_state", keeps_state_ || state_.changed()}};
    if (forwards_.count > 0) {
      cursor["examples"] =
          std::min(static_cast<int64_t>(forward_) * forwards_.batch, forwards_.count);
      cursor["of"] = forwards_.count;
    }
    return cursor;
  }

  void seek(const Json& cursor) override {
    find_out_about_state();
    const auto place =
        cursor.is_null() ? 0
                         : static_cast<uint64_t>(json_integer(cursor, "forward", kInputCursor, 0,
                                                              std::numeric_limits<int64_t>::max()));
    keeps_state_ |= state_.changed() || (!cursor.is_null() && cursor.value("keeps_state", false));
    state_.restore();
    forward_ = keeps_state_ ? 0 : place;
    if (keeps_state_ && pass(place) < place)
      fail("{}: found forward = {}, expected at most {}", kInputCursor, place, forward_);
  }

  std::string where() const override { return fmt::format("forward {}", forward_); }
  Json provenance() const override { return provenance_; }

 private:
  std::optional<HarvestForward> numbered(uint64_t number) const {
    auto forward = forwards_.at(number);
    if (!forward) return std::nullopt;
    forward->to_the_end = keeps_state_;
    forward->seed = random_bits(seed_, kForwardStream, number);
    return forward;
  }

  void run(HarvestForward forward) {
    const ForwardScope scope;
    at::manual_seed(*forward.seed);
    module_.run(forward.call.method, std::move(forward.call.arguments), forward.keywords);
  }

  /// By the first forward, once.
  void find_out_about_state() {
    if (std::exchange(found_out_, true)) return;
    auto first = numbered(0);
    if (!first) return;
    run(std::move(*first));
    keeps_state_ = state_.changed();
    state_.restore();
  }

  HookedModule module_;
  ModuleState state_;
  NumberedForwards forwards_;
  uint64_t seed_;
  Json provenance_;
  uint64_t forward_ = 0;
  bool found_out_ = false, keeps_state_ = false;
};

/// The parameters of the module's forward; throws Error, beginning with `source`, unless `inputs`
/// has all those without a default and, but for the mask, no others.
std::vector<std::string> parameters_of(const HookedModule& module, const NamedTensors& inputs,
                                       const TensorInputOptions& options) {
  const auto method = module.module().find_method("forward");
  if (!method) {
    std::vector<std::string> methods;
    for (const torch::jit::Function* function : module.module().type()->methods())
      methods.push_back(function->name());
    fail("{}: the module has no method forward, which would take them; it has {}", options.source,
         fmt::join(methods, ", "));
  }
  if (!options.mask.empty() && !inputs.contains(options.mask))
    fail("{}: found no tensor {} to be the mask of padding", options.source, options.mask);
  std::vector<std::string> parameters, described, missing;
  const auto& arguments = method->function().getSchema().arguments();
  for (size_t i = 1; i < arguments.size(); ++i) {  // the first is the module, whatever its name
    const bool optional = arguments[i].default_value().has_value();
    parameters.push_back(arguments[i].name());
    described.push_back(optional ? parameters.back() + "?" : parameters.back());
    if (!optional && !inputs.contains(parameters.back())) missing.push_back(parameters.back());
  }
  if (!missing.empty())
    fail("{}: found no tensor {}, expected one per parameter of the module's forward: {}",
         options.source, missing.front(), fmt::join(described, ", "));
  for (const auto& [name, tensor] : inputs)
    if (name != options.mask &&
        std::find(parameters.begin(), parameters.end(), name) == parameters.end())
      fail("{}: found a tensor {}, expected those that the module's forward takes: {}",
           options.source, name, fmt::join(described, ", "));
  return parameters;
}

/// [n, seq] bool on the CPU, of n examples; undefined: there is no mask.
at::Tensor real_of(const NamedTensors& inputs, int64_t count, const TensorInputOptions& options) {
  if (options.mask.empty()) return {};
  const at::Tensor& mask = inputs.at(options.mask);
  if (mask.dim() != 2 || mask.size(0) != count)
    fail("{}: {}: found shape [{}], expected a mask [{}, seq]", options.source, options.mask,
         fmt::join(mask.sizes(), ", "), count);
  const at::Tensor real = mask.to(at::kCPU) != 0;
  if (!at::equal(real.to(mask.scalar_type()), mask.to(at::kCPU)))
    fail("{}: {}: found other values than 0, padding, and 1", options.source, options.mask);
  return real;
}

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
    Json provenance, uint64_t seed) {
  auto forwards = [arguments = std::move(arguments)](uint64_t number) {
    std::optional<HarvestForward> forward;
    if (auto given = arguments(number))
      forward = HarvestForward{
          .call = {.method = "forward", .arguments = std::move(*given), .tokens = {}},
          .keywords = {},
          .facts = {}};
    return forward;
  };
  return std::make_unique<ModuleInput>(
      std::move(module), NumberedForwards{.at = std::move(forwards)}, seed, std::move(provenance));
}

std::unique_ptr<HarvestInput> tensor_input(HookedModule module, NamedTensors inputs,
                                           const TensorInputOptions& options, Json provenance) {
  if (inputs.empty()) fail("{}: found no tensor, expected at least one", options.source);
  if (options.batch < 1) fail("a batch of {} inputs; expected at least 1", options.batch);
  const std::vector<std::string> parameters = parameters_of(module, inputs, options);
  for (const auto& [name, input] : inputs)
    if (input.dim() == 0 || input.size(0) == 0)
      fail("{}: {}: found shape [{}], expected [n, ..] of n examples, at least 1", options.source,
           name, fmt::join(input.sizes(), ", "));
  const int64_t count = inputs.begin()->second.size(0);
  for (const auto& [name, input] : inputs)
    if (input.size(0) != count)
      fail("{}: {}: found {} rows, expected {}, as many as {}", options.source, name, input.size(0),
           count, inputs.begin()->first);
  at::Tensor any = inputs.begin()->second;  // on the module's device, when it has any
  for (const at::Tensor& parameter : module.module().parameters()) {
    any = parameter;
    break;
  }
  const at::Tensor real = real_of(inputs, count, options);  // [n, seq]
  std::erase_if(inputs, [&](const auto& input) {            // a mask that forward does not take
    return std::find(parameters.begin(), parameters.end(), input.first) == parameters.end();
  });
  provenance["batch_tokens"] = options.batch;
  provenance["mask"] = options.mask;
  provenance["seed"] = options.seed;
  auto forwards = [inputs = std::move(inputs), batch = options.batch, count, real,
                   device = any.device()](uint64_t number) -> std::optional<HarvestForward> {
    const auto begin = static_cast<int64_t>(number) * batch;
    if (begin >= count) return std::nullopt;
    const int64_t rows = std::min(batch, count - begin);
    HarvestForward forward{
        .call = {.method = "forward", .arguments = {}, .tokens = {}}, .keywords = {}, .facts = {}};
    for (const auto& [name, input] : inputs)
      forward.keywords.emplace(name, input.narrow(0, begin, rows).to(device));
    if (real.defined()) forward.facts.real = real.narrow(0, begin, rows);
    return forward;
  };
  return std::make_unique<ModuleInput>(
      std::move(module),
      NumberedForwards{.at = std::move(forwards), .batch = options.batch, .count = count},
      options.seed, std::move(provenance));
}

}  // namespace vyx::models
