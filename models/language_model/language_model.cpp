#include "models/language_model/language_model.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <c10/core/ScalarType.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "core/base/error.h"
#include "core/base/text.h"
#include "core/hooks/activation_reader.h"
#include "core/hooks/script_archive.h"
#include "core/hooks/token_mask.h"
#include "core/io/files.h"
#include "models/language_model/forward_scope.h"
#include "models/tokenizer/chat_format.h"

namespace vyx::models {
namespace {

constexpr const char* kConfigFile = "config.json";
constexpr const char* kTokenizerFile = "tokenizer.json";

torch::List<at::Tensor> as_list(const std::vector<at::Tensor>& tensors) {
  torch::List<at::Tensor> list;
  for (const at::Tensor& tensor : tensors) list.push_back(tensor);
  return list;
}

/// TorchScript's None for a tensor that is undefined.
c10::IValue optional(const at::Tensor& tensor) {
  return tensor.defined() ? c10::IValue(tensor) : c10::IValue();
}

/// Throws Error unless the cache has room for the tokens, and keys of what they are to see.
void require_fit(const KvCache& cache, const Forward& forward, bool harvest, int64_t rows,
                 int64_t seq) {
  if (rows != cache.batch)
    fail("a batch of {} rows behind a cache of {}; expected as many", rows, cache.batch);
  if (cache.length + seq > cache.capacity)
    fail("{} tokens behind the {} of a cache exceed its capacity of {}; make it larger", seq,
         cache.length, cache.capacity);
  if (forward.segments.defined())
    fail("found segments of tokens behind a cache, expected none; run them without one");
  if (cache.length == 0) return;
  if (forward.from_block < cache.from_block)
    fail("a forward from block {} behind a cache from block {} on; expected that block or later",
         forward.from_block, cache.from_block);
  if (!cache.to_last_block && !harvest)
    fail("a forward behind a cache of harvests, which stop early; expected a cache of whole ones");
}

/// The most tokens of one document in any row of `segments` [batch, seq].
int64_t longest_segment(const at::Tensor& segments) {
  const at::Tensor numbers = segments.to(c10::kCPU, at::kLong).contiguous();
  const int64_t seq = numbers.size(1);
  int64_t longest = 0, run = 0;
  for (int64_t i = 0; i < numbers.numel(); ++i) {
    const int64_t* number = numbers.const_data_ptr<int64_t>() + i;
    run = *number == 0 ? 0 : i % seq != 0 && number[-1] == *number ? run + 1 : 1;
    longest = std::max(longest, run);
  }
  return longest;
}

/// Throws Error for the file that a model is imported from.
void refuse_source(const std::filesystem::path& path) {
  constexpr std::string_view kGguf = "GGUF";
  const MappedFile file(path);
  const std::string_view start(reinterpret_cast<const char*>(file.bytes().data()),
                               std::min(file.bytes().size(), kGguf.size()));
  if (start == kGguf)
    fail("{}: found a GGUF file, expected an archive; make one of it with vyx-import",
         path.string());
}

}  // namespace

LanguageModel LanguageModel::load(const std::filesystem::path& path, c10::Device device) {
  refuse_source(path);
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
  if (tokenizer.vocabulary_size() > config.spec.vocabulary)
    fail(
        "{}: found {} tokens, expected at most the model's vocabulary of {}; the archive's parts "
        "are of different models",
        source, tokenizer.vocabulary_size(), config.spec.vocabulary);
  for (const char* method : {"forward", "hidden", "logits"}) {
    if (!archive.module.find_method(method))
      fail("{}: found no method {}, expected forward, hidden and logits; import the model again",
           source, method);
  }
  return LanguageModel(archive.module, std::move(config), std::move(tokenizer));
}

LanguageModel::LanguageModel(const torch::jit::Module& module, LanguageModelConfig config,
                             Tokenizer tokenizer)
    : unhooked_(module),
      module_(module),
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
  if (block < 0 || block >= config_.spec.layers())
    fail("{}: found block {}, expected 0 to {}", config_.provenance.name, block,
         config_.spec.layers() - 1);
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
  if (!chat) return with_begin(tokenizer_.encode(text));
  const std::array messages{ChatMessage{.role = "user", .content = std::string(text)}};
  return encode_chat(messages);
}

std::vector<TokenId> LanguageModel::encode_chat(std::span<const ChatMessage> messages,
                                                bool special_in_text) const {
  std::vector<ChatPart> parts;
  try {
    parts = chat_parts(config_.tokens.chat_format, messages);
  } catch (const Error& error) {
    fail("{}: {}", config_.provenance.name, error.what());
  }
  std::vector<TokenId> tokens;
  for (const auto& [text, is_marker] : parts) {
    if (is_marker) {
      const auto marker = tokenizer_.find(text);
      if (!marker || !tokenizer_.is_special(*marker))
        fail("{}: found no control token {}, expected one for chats; import the model again",
             config_.provenance.name, quote(text));
      tokens.push_back(*marker);
    } else {
      const auto more = tokenizer_.encode(text, {.special_tokens = special_in_text});
      tokens.insert(tokens.end(), more.begin(), more.end());
    }
  }
  return with_begin(std::move(tokens));
}

std::vector<TokenId> LanguageModel::with_begin(std::vector<TokenId> tokens) const {
  if (config_.tokens.add_bos && (tokens.empty() || tokens.front() != config_.tokens.bos))
    tokens.insert(tokens.begin(), config_.tokens.bos);
  return tokens;
}

void LanguageModel::require_context(int64_t tokens, int64_t more, std::string_view what) const {
  const int64_t context = config_.context_length;
  if (tokens > context)
    fail("{}: found {} tokens, expected at most the context length of {}; shorten the text", what,
         tokens, context);
  if (more > context - tokens)  // the sum may be beyond 64 bits
    fail(
        "{}: {} tokens and {} more exceed the context length of {}; generate fewer or shorten the "
        "text",
        what, tokens, more, context);
}

void LanguageModel::require_context(const Forward& forward, int64_t past,
                                    const at::Tensor& real) const {
  const at::Tensor& input = forward.hidden.defined() ? forward.hidden : forward.ids;
  int64_t tokens = past + input.size(1);
  if (tokens <= config_.context_length) return;
  if (forward.segments.defined()) tokens = longest_segment(forward.segments);
  if (real.defined()) tokens = real.sum(1).max().item<int64_t>();  // padding has no positions
  require_context(tokens, 0, config_.provenance.name);
}

at::Tensor LanguageModel::logits(const Batch& batch) {
  const ForwardScope scope;
  const at::Tensor real = batch.mask.defined() ? batch.mask.to(device_) : at::Tensor();
  require_context({.ids = batch.ids}, 0, real);
  const TokenMaskScope tokens({.real = real, .generated = {}});
  return module_.forward({batch.ids.to(device_), optional(real)}).toTensor().to(at::kFloat);
}

at::Tensor LanguageModel::unhooked_logits(const Batch& batch) {
  const ForwardScope scope;
  const at::Tensor real = batch.mask.defined() ? batch.mask.to(device_) : at::Tensor();
  require_context({.ids = batch.ids}, 0, real);
  return unhooked_.forward({batch.ids.to(device_), optional(real)}).toTensor().to(at::kFloat);
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
  KvCache cache{.capacity = capacity, .batch = batch};
  const auto options = at::TensorOptions().dtype(dtype_).device(device_);
  const std::array<int64_t, 4> shape{batch, config_.spec.attention.kv_heads, capacity,
                                     config_.spec.attention.head_dim};
  for (int64_t block = 0; block < config_.spec.layers(); ++block) {
    cache.keys.push_back(at::empty(shape, options));
    cache.values.push_back(at::empty(shape, options));
  }
  return cache;
}

/// A call, and what the cache becomes when it has succeeded.
struct LanguageModel::Prepared {
  ForwardCall call;
  KvCache* cache = nullptr;
  at::Tensor real;  // [batch, length] bool; undefined: no token is padding
  int64_t length = 0, from_block = 0;
  bool to_last_block = true;

  void succeed() const {
    if (!cache) return;
    cache->real = real;
    cache->length = length;
    cache->from_block = from_block;
    cache->to_last_block = to_last_block;
  }
};

LanguageModel::Prepared LanguageModel::prepare(const Forward& forward, bool harvest) const {
  if (forward.ids.defined() == forward.hidden.defined())
    fail("a forward of {}; expected tokens or hidden states",
         forward.ids.defined() ? "tokens and hidden states" : "nothing");
  if (forward.real.defined() && forward.segments.defined())
    fail("a forward with a mask and segments; expected one of them, for segments are 0 at padding");
  const bool resumes = forward.hidden.defined();
  if (!resumes && forward.from_block != 0)
    fail("a forward of tokens from block {} on; expected hidden states", forward.from_block);
  if (forward.from_block < 0 || forward.from_block >= config_.spec.layers())
    fail("{}: found block {}, expected 0 to {}", config_.provenance.name, forward.from_block,
         config_.spec.layers() - 1);
  if (resumes && !can_resume())
    fail("{}: found no method resume, expected one; run the model from its tokens",
         config_.provenance.name);
  const at::Tensor input = (resumes ? forward.hidden : forward.ids).to(device_);
  const int64_t rows = input.size(0), seq = input.size(1);
  const auto here = [&](const at::Tensor& mask) {
    return mask.defined() ? mask.to(device_) : at::Tensor();
  };
  const at::Tensor real = here(forward.real), segments = here(forward.segments);  // [batch, seq]

  Prepared result{.call = {.method = resumes ? "resume" : "hidden", .arguments = {}, .tokens = {}}};
  result.call.tokens.real = segments.defined() ? segments != 0 : real;
  if (forward.generated)
    result.call.tokens.generated = at::ones({rows, seq}, input.options().dtype(at::kBool));

  result.real = real;
  int64_t past = 0;
  std::vector<at::Tensor> keys, values;
  if (KvCache* cache = forward.cache) {
    require_fit(*cache, forward, harvest, rows, seq);
    past = cache->length;
    if (past > 0 && (real.defined() || cache->real.defined())) {
      const auto all_real = [&](const at::Tensor& mask, int64_t tokens) {
        return mask.defined() ? mask : at::ones({rows, tokens}, input.options().dtype(at::kBool));
      };
      result.real = at::cat({all_real(cache->real, past), all_real(real, seq)}, 1);
    }
    result.cache = cache;
    result.length = past + seq;
    result.from_block = forward.from_block;
    result.to_last_block = !harvest;
    keys = cache->keys;
    values = cache->values;
  }
  require_context(forward, past, result.real);
  Arguments& arguments = result.call.arguments;
  arguments = {input};
  if (resumes) arguments.emplace_back(forward.from_block);
  arguments.insert(arguments.end(), {optional(result.real), as_list(keys), as_list(values), past});
  if (segments.defined()) {
    const auto method = module_.module().get_method(result.call.method);
    if (!method.function().getSchema().argumentIndexWithName("segments"))
      fail("{}: found a model whose {} takes no segments, made by an earlier vyx; import it again",
           config_.provenance.name, result.call.method);
    arguments.emplace_back(segments);
  }
  return result;
}

at::Tensor LanguageModel::run(const Forward& forward) {
  const ForwardScope scope;
  Prepared prepared = prepare(forward, /*harvest=*/false);
  const TokenMaskScope tokens(prepared.call.tokens);
  at::Tensor hidden =
      module_.run(prepared.call.method, std::move(prepared.call.arguments)).toTensor();
  prepared.succeed();
  return hidden;
}

void LanguageModel::harvest(const Forward& forward) {
  const ForwardScope scope;
  Prepared prepared = prepare(forward, /*harvest=*/true);
  const TokenMaskScope tokens(prepared.call.tokens);
  module_.harvest(prepared.call.method, std::move(prepared.call.arguments));
  prepared.succeed();
}

ForwardCall LanguageModel::call(const Forward& forward) const {
  return prepare(forward, /*harvest=*/false).call;
}

bool LanguageModel::can_resume() const {
  return module_.module().find_method("resume").has_value();
}

at::Tensor LanguageModel::extend(KvCache& cache, const Batch& batch, bool generated) {
  return run({.ids = batch.ids, .real = batch.mask, .cache = &cache, .generated = generated});
}

at::Tensor LanguageModel::extend_from(BlockInput& input, KvCache& cache, const Batch& batch,
                                      bool generated) {
  if (input.block == 0 || !can_resume()) return extend(cache, batch, generated);
  if (input.hidden.defined())
    return run({.hidden = input.hidden,
                .from_block = input.block,
                .real = batch.mask,
                .cache = &cache,
                .generated = generated});
  const Site before = block_output(input.block - 1);
  const auto copy = [&](const Site&, const c10::IValue& value) {  // the block may write into it
    return activation_at(before, value, batch.ids.sizes()).clone();
  };
  at::Tensor hidden;
  input.hidden = read_once(module_, std::span(&before, 1), copy,
                           [&] { hidden = extend(cache, batch, generated); })[0];
  return hidden;
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
