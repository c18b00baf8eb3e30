#include "models/language_model/language_model.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/ScalarType.h>
#include <torch/csrc/jit/runtime/graph_executor.h>

#include <array>
#include <charconv>
#include <utility>

#include "core/base/error.h"
#include "core/hooks/activation.h"
#include "core/hooks/script_archive.h"
#include "core/hooks/token_mask.h"
#include "models/tokenizer/chat_format.h"

namespace vyx::models {
namespace {

constexpr const char* kConfigFile = "config.json";
constexpr const char* kTokenizerFile = "tokenizer.json";

/// What every forward runs under: no gradients, and the graphs as they were written. TorchScript's
/// optimiser profiles and respecialises a whole model for each new shape of its inputs, seconds
/// each time, and makes decoding no faster.
struct ForwardScope {
  at::NoGradGuard no_grad;
  torch::jit::GraphOptimizerEnabledGuard unoptimized{false};
};

torch::List<at::Tensor> as_list(const std::vector<at::Tensor>& tensors) {
  torch::List<at::Tensor> list;
  for (const at::Tensor& tensor : tensors) list.push_back(tensor);
  return list;
}

}  // namespace

LanguageModel LanguageModel::load(const std::filesystem::path& path, c10::Device device) {
  ScriptArchive archive = load_script(path, {kConfigFile, kTokenizerFile}, device);
  for (const char* file : {kConfigFile, kTokenizerFile}) {
    if (!archive.extra_files.contains(file))
      fail(
          "{}: found a TorchScript archive without {}, expected a language model; make one with "
          "vyx-import",
          path.string(), file);
  }
  const std::string source = path.string();
  LanguageModelConfig config =
      config_from_json(archive.extra_files[kConfigFile], source + ": " + kConfigFile);
  Tokenizer tokenizer =
      Tokenizer::from_json(archive.extra_files[kTokenizerFile], source + ": " + kTokenizerFile);
  if (tokenizer.vocabulary_size() > config.vocabulary)
    fail(
        "{}: found {} tokens, expected at most the model's vocabulary of {}; the archive's parts "
        "are of different models",
        source, tokenizer.vocabulary_size(), config.vocabulary);
  for (const char* method : {"forward", "hidden", "logits"}) {
    if (!archive.module.find_method(method))
      fail("{}: found no method {}, expected forward, hidden and logits; import the model again",
           source, method);
  }
  return LanguageModel(archive.module, std::move(config), std::move(tokenizer));
}

LanguageModel::LanguageModel(const torch::jit::Module& module, LanguageModelConfig config,
                             Tokenizer tokenizer)
    : module_(module),
      config_(std::move(config)),
      tokenizer_(std::move(tokenizer)),
      device_(c10::kCPU) {
  for (const at::Tensor& parameter : module.parameters()) {
    device_ = parameter.device();
    dtype_ = parameter.scalar_type();
    break;
  }
}

Site LanguageModel::block_output(int64_t block) const {
  if (block < 0 || block >= config_.layers)
    fail("{}: found block {}, expected 0 to {}", config_.name, block, config_.layers - 1);
  return {fmt::format("{}.{}", config_.block_path, block), Port::output};
}

int64_t LanguageModel::block_of(const Site& site) const {
  const std::string blocks = config_.block_path + ".";
  if (!site.path.starts_with(blocks)) return 0;
  int64_t block = 0;
  const char* const number = site.path.data() + blocks.size();
  const auto [end, error] = std::from_chars(number, site.path.data() + site.path.size(), block);
  return error == std::errc() ? block : 0;
}

std::vector<TokenId> LanguageModel::encode_prompt(std::string_view text, bool chat) const {
  std::string templated;
  if (chat) {
    if (config_.chat_format != "chatml")
      fail("{}: found no chat format that vyx knows, expected chatml; give a plain prompt",
           config_.name);
    const std::array messages{ChatMessage{.role = "user", .content = std::string(text)}};
    templated = chatml(messages);
    text = templated;
  }
  std::vector<TokenId> tokens = tokenizer_.encode(text);
  if (config_.add_bos && (tokens.empty() || tokens.front() != config_.bos_token))
    tokens.insert(tokens.begin(), config_.bos_token);
  return tokens;
}

at::Tensor LanguageModel::logits(const Batch& batch) {
  const ForwardScope scope;
  const at::Tensor mask = batch.mask.defined() ? batch.mask.to(device_) : at::Tensor();
  const TokenMaskScope tokens({.real = mask, .generated = {}});
  return module_
      .forward({batch.ids.to(device_), mask.defined() ? c10::IValue(mask) : c10::IValue()})
      .toTensor()
      .to(at::kFloat);
}

at::Tensor LanguageModel::token_log_probabilities(const Batch& batch) {
  const at::NoGradGuard no_grad;
  const int64_t seq = batch.ids.size(1);
  const at::Tensor scores = logits(batch).narrow(1, 0, seq - 1);  // [batch, seq − 1, vocabulary]
  const at::Tensor next =
      batch.ids.to(device_).narrow(1, 1, seq - 1).unsqueeze(2);  // [batch, seq − 1, 1]
  at::Tensor result = scores.gather(2, next).squeeze(2) - scores.logsumexp(2);
  if (batch.mask.defined()) {
    const at::Tensor real = batch.mask.to(device_);
    result = result.masked_fill(
        (real.narrow(1, 1, seq - 1) & real.narrow(1, 0, seq - 1)).logical_not(), 0);
  }
  return result;
}

KvCache LanguageModel::make_cache(int64_t batch, int64_t capacity) const {
  KvCache cache{
      .keys = {}, .values = {}, .mask = {}, .length = 0, .capacity = capacity, .batch = batch};
  const auto options = at::TensorOptions().dtype(dtype_).device(device_);
  const std::array<int64_t, 4> shape{batch, config_.kv_heads, capacity, config_.head_dim};
  for (int64_t block = 0; block < config_.layers; ++block) {
    cache.keys.push_back(at::empty(shape, options));
    cache.values.push_back(at::empty(shape, options));
  }
  return cache;
}

KvCache LanguageModel::repeat(const KvCache& cache, int64_t times, int64_t capacity) const {
  if (capacity < cache.length)
    fail("a cache of {} tokens does not fit a capacity of {}", cache.length, capacity);
  const at::NoGradGuard no_grad;
  KvCache result = make_cache(cache.batch * times, capacity);
  result.length = cache.length;
  const auto copy_rows = [&](const at::Tensor& from, at::Tensor& to, int64_t tokens) {
    to.unflatten(0, {cache.batch, times})
        .narrow(tokens + 1, 0, cache.length)
        .copy_(from.unsqueeze(1).narrow(tokens + 1, 0, cache.length));
  };
  for (size_t block = 0; block < cache.keys.size(); ++block) {
    copy_rows(cache.keys[block], result.keys[block], 2);
    copy_rows(cache.values[block], result.values[block], 2);
  }
  if (cache.mask.defined()) {
    result.mask = at::ones({result.batch, capacity}, cache.mask.options());
    copy_rows(cache.mask, result.mask, 1);
  }
  return result;
}

/// The arguments of hidden() for tokens behind a cache, and the mask that its hooks see.
struct LanguageModel::Step {
  Arguments arguments;
  TokenMask tokens;
};

LanguageModel::Step LanguageModel::step(KvCache& cache, const Batch& batch, bool generated) const {
  const int64_t rows = batch.ids.size(0), seq = batch.ids.size(1), end = cache.length + seq;
  if (rows != cache.batch)
    fail("a batch of {} rows behind a cache of {}; expected as many", rows, cache.batch);
  if (end > cache.capacity)
    fail("{} tokens behind the {} of a cache exceed its capacity of {}; make it larger", seq,
         cache.length, cache.capacity);
  const at::Tensor ids = batch.ids.to(device_);
  Step step;
  if (batch.mask.defined()) step.tokens.real = batch.mask.to(device_);
  if (generated) step.tokens.generated = at::ones_like(ids, at::kBool);
  if (batch.mask.defined() && !cache.mask.defined())
    cache.mask = at::ones({cache.batch, cache.capacity}, step.tokens.real.options());
  if (cache.mask.defined()) {
    if (batch.mask.defined()) {
      cache.mask.narrow(1, cache.length, seq).copy_(step.tokens.real);
    } else {
      cache.mask.narrow(1, cache.length, seq).fill_(true);
    }
  }
  step.arguments = {
      ids, cache.mask.defined() ? c10::IValue(cache.mask.narrow(1, 0, end)) : c10::IValue(),
      as_list(cache.keys), as_list(cache.values), cache.length};
  cache.length = end;
  return step;
}

at::Tensor LanguageModel::extend(KvCache& cache, const Batch& batch, bool generated) {
  const ForwardScope scope;
  Step step = this->step(cache, batch, generated);
  const TokenMaskScope tokens(step.tokens);
  return module_.run("hidden", std::move(step.arguments)).toTensor();
}

at::Tensor LanguageModel::extend_from(int64_t block, at::Tensor& entering, KvCache& cache,
                                      const Batch& batch, bool generated) {
  if (block == 0 || !module_.module().find_method("resume")) return extend(cache, batch, generated);
  if (!entering.defined()) {
    const Site before = block_output(block - 1);
    const HookHandle handle =
        module_.hook(std::span(&before, 1), [&](const Site&, const c10::IValue& value) {
          entering =
              activation_of(value)->clone();  // [batch, seq, d_model]; the block may write into it
          return std::nullopt;
        });
    return extend(cache, batch, generated);
  }
  const ForwardScope scope;
  Step step = this->step(cache, batch, generated);
  const TokenMaskScope tokens(step.tokens);
  step.arguments[0] = entering;
  step.arguments.insert(step.arguments.begin() + 1, block);
  return module_.run("resume", std::move(step.arguments)).toTensor();
}

void LanguageModel::harvest(KvCache& cache, const Batch& batch) {
  const ForwardScope scope;
  Step step = this->step(cache, batch, false);
  const TokenMaskScope tokens(step.tokens);
  module_.harvest("hidden", std::move(step.arguments));
}

void LanguageModel::harvest(const at::Tensor& ids, const at::Tensor& segments) {
  const ForwardScope scope;
  const at::Tensor mask = segments.defined() ? segments.to(device_) : at::Tensor();
  const TokenMaskScope tokens({.real = mask.defined() ? mask != 0 : mask, .generated = {}});
  module_.harvest("hidden", {ids.to(device_), mask.defined() ? c10::IValue(mask) : c10::IValue(),
                             as_list({}), as_list({}), int64_t{0}});
}

at::Tensor LanguageModel::head(const at::Tensor& hidden) {
  const ForwardScope scope;
  return module_.run("logits", {hidden}).toTensor().to(at::kFloat);
}

void save_language_model(const torch::jit::Module& module, const LanguageModelConfig& config,
                         std::string_view tokenizer_json, const std::filesystem::path& path) {
  validate(config, path.string());
  save_script(module, path,
              {{kConfigFile, to_json(config)}, {kTokenizerFile, std::string(tokenizer_json)}});
}

}  // namespace vyx::models
