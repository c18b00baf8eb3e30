#include "models/importers/gguf_importer.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <fmt/ranges.h>

#include <algorithm>

#include <array>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <set>
#include <utility>

#include "core/base/error.h"
#include "core/base/text.h"
#include "core/io/digest.h"
#include "core/io/files.h"
#include "models/architectures/llama.h"
#include "models/importers/gguf_tokenizer.h"
#include "models/language_model/language_model.h"
#include "models/tokenizer/chat_format.h"

namespace vyx::models {
namespace {

constexpr uint64_t kMaxToken = std::numeric_limits<int32_t>::max();

int64_t size_of(const Gguf& gguf, std::string_view key, uint64_t max) {
  return static_cast<int64_t>(gguf.unsigned_integer(key, 1, max));
}

int64_t size_or(const Gguf& gguf, std::string_view key, uint64_t max, int64_t otherwise) {
  return gguf.find(key) ? size_of(gguf, key, max) : otherwise;
}

bool flag_or(const Gguf& gguf, std::string_view key, bool otherwise) {
  const GgufValue* value = gguf.find(key);
  if (!value) return otherwise;
  if (const bool* flag = std::get_if<bool>(value)) return *flag;
  fail("{}: {} is of type {}, expected bool", gguf.source(), key, type_name(*value));
}

double positive(const Gguf& gguf, std::string_view key) {
  const double value = gguf.number(key);
  if (value <= 0) fail("{}: {} = {}, expected a positive number", gguf.source(), key, value);
  return value;
}

/// A float32 as the decimal number that it was written from: 1e-5, not 9.99999974737875e-06.
double as_written(double value) {
  const auto narrow = static_cast<float>(value);
  return static_cast<double>(narrow) == value ? std::stod(fmt::format("{}", narrow)) : value;
}

/// Every hyperparameter of the family is known or refused by name: one that is ignored makes a
/// model that is wrong in silence.
void refuse_unknown_hyperparameters(const Gguf& gguf) {
  static const std::set<std::string_view> kKnown = {
      "block_count", "context_length", "embedding_length", "feed_forward_length", "vocab_size",
      "rope.freq_base", "rope.dimension_count", "attention.head_count", "attention.head_count_kv",
      "attention.key_length", "attention.value_length", "attention.layer_norm_rms_epsilon",
      "tensor_data_layout",
      // of how rotary positions were stretched in training; only these two say how to compute them
      "rope.scaling.original_context_length", "rope.scaling.finetuned"};
  // What vyx has not got, and the value with which it does nothing.
  static const std::map<std::string_view, double> kNeutral = {
      {"rope.scale_linear", 1}, {"rope.scaling.factor", 1}, {"rope.scaling.attn_factor", 1},
      {"expert_count", 0},      {"expert_used_count", 0},   {"attention.sliding_window", 0},
      {"logit_scale", 1},       {"residual_scale", 1},      {"embedding_scale", 1}};
  constexpr std::string_view kPrefix = "llama.";
  for (const auto& [key, value] : gguf.metadata()) {
    if (!key.starts_with(kPrefix)) continue;
    const std::string_view name = std::string_view(key).substr(kPrefix.size());
    if (kKnown.contains(name)) continue;
    if (const auto neutral = kNeutral.find(name); neutral != kNeutral.end()) {
      if (const double found = gguf.number(key); found != neutral->second)
        fail("{}: found {} = {}, expected {}; vyx does not compute this yet", gguf.source(), key,
             found, neutral->second);
      continue;
    }
    if (name == "rope.scaling.type") {
      if (const std::string type = gguf.string(key); type != "none")
        fail("{}: found {} = {}, expected none; vyx does not scale rotary positions yet",
             gguf.source(), key, quote(type));
      continue;
    }
    fail(
        "{}: found the hyperparameter {}, which vyx does not know; a model without it would be "
        "another one",
        gguf.source(), quote(key));
  }
}

/// The id of a special token, -1 when the file names none.
int64_t token_of(const Gguf& gguf, const char* name, int64_t vocabulary) {
  const std::string key = fmt::format("tokenizer.ggml.{}_token_id", name);
  if (!gguf.find(key)) return -1;
  const auto token = static_cast<int64_t>(gguf.unsigned_integer(key, 0, kMaxToken));
  if (token >= vocabulary)
    fail("{}: {} = {}, expected less than the vocabulary of {} tokens", gguf.source(), key, token,
         vocabulary);
  return token;
}

std::string dtype_name(at::ScalarType dtype) {
  switch (dtype) {
    case at::kFloat:
      return "float32";
    case at::kBFloat16:
      return "bfloat16";
    case at::kHalf:
      return "float16";
    default:
      throw UsageError(fmt::format("weights of type {}; expected float32, bfloat16 or float16",
                                   c10::toString(dtype)));
  }
}

/// A tensor of the model: its names on both sides, and its shape as torch has it.
struct WeightPlan {
  std::string gguf_name, name;
  std::vector<int64_t> shape;  // [out, in] or [d]
  int64_t rotated_heads = 0;   // of a query or key projection
};

std::vector<WeightPlan> weights_of(const LanguageModelConfig& config) {
  const int64_t d = config.d_model, queries = config.heads * config.head_dim,
                keys = config.kv_heads * config.head_dim;
  std::vector<WeightPlan> plan = {
      {"token_embd.weight", "model.embed_tokens.weight", {config.vocabulary, d}},
      {"output_norm.weight", "model.norm.weight", {d}}};
  if (!config.tied_embeddings)
    plan.push_back({"output.weight", "lm_head.weight", {config.vocabulary, d}});
  for (int64_t k = 0; k < config.layers; ++k) {
    const auto add = [&](const char* theirs, const char* ours, std::vector<int64_t> shape,
                         int64_t rotated_heads = 0) {
      plan.push_back({fmt::format("blk.{}.{}.weight", k, theirs),
                      fmt::format("{}.{}.{}.weight", config.block_path, k, ours), std::move(shape),
                      rotated_heads});
    };
    add("attn_norm", "input_layernorm", {d});
    add("attn_q", "self_attn.q_proj", {queries, d}, config.heads);
    add("attn_k", "self_attn.k_proj", {keys, d}, config.kv_heads);
    add("attn_v", "self_attn.v_proj", {keys, d});
    add("attn_output", "self_attn.o_proj", {d, queries});
    add("ffn_norm", "post_attention_layernorm", {d});
    add("ffn_gate", "mlp.gate_proj", {config.d_ff, d});
    add("ffn_up", "mlp.up_proj", {config.d_ff, d});
    add("ffn_down", "mlp.down_proj", {d, config.d_ff});
  }
  return plan;
}

/// Checks that the file has exactly the planned tensors, in shapes and types that vyx reads, before
/// any is expanded.
void check_tensors(const Gguf& gguf, const std::vector<WeightPlan>& plan) {
  std::set<std::string_view> planned;
  for (const WeightPlan& weight : plan) {
    planned.insert(weight.gguf_name);
    const GgufTensor& tensor = gguf.tensor(weight.gguf_name);
    const std::vector<uint64_t> expected(weight.shape.rbegin(),
                                         weight.shape.rend());  // ggml's order
    if (tensor.shape != expected) {
      fail("{}: tensor {} has the shape [{}], expected [{}] from the hyperparameters",
           gguf.source(), weight.gguf_name, fmt::join(tensor.shape, ", "),
           fmt::join(expected, ", "));
    }
    if (!can_dequantize(tensor.type))
      fail(
          "{}: tensor {} is of type {}, which vyx does not read yet; quantise to Q8_0, Q4_0 or "
          "Q4_1, or use F16",
          gguf.source(), weight.gguf_name, name_of(tensor.type));
  }
  for (const GgufTensor& tensor : gguf.tensors()) {
    if (tensor.name.starts_with("rope_freqs") || tensor.name.starts_with("rope_factors"))
      fail("{}: found the tensor {}; vyx does not scale rotary positions yet", gguf.source(),
           quote(tensor.name));
    if (!planned.contains(tensor.name))
      fail("{}: found the tensor {}, which a llama model of {} blocks has no place for",
           gguf.source(), quote(tensor.name), plan.size() / 9);
  }
}

/// GGUF pairs neighbouring rows of a query or key head for its rotation, Hugging Face the two
/// halves of the head.
at::Tensor rotate_halves(const at::Tensor& weight, int64_t heads) {  // [heads · head_dim, in]
  return weight.unflatten(0, {heads, -1, 2}).transpose(1, 2).reshape(weight.sizes());
}

/// Expands all weights, in pieces of about equal size on all threads.
std::map<std::string, at::Tensor> expand(const Gguf& gguf, const std::vector<WeightPlan>& plan,
                                         const ImportOptions& options) {
  struct Piece {
    const GgufTensor* source;
    at::Tensor target;  // [elements], flat
    int64_t begin, end;
  };
  constexpr int64_t kPiece = 1 << 19;  // elements; whole blocks of every type
  std::vector<Piece> pieces;
  std::map<std::string, at::Tensor> weights;
  int64_t total = 0;
  for (const WeightPlan& weight : plan) {
    const at::Tensor target = at::empty(weight.shape, options.dtype);
    weights.emplace(weight.name, target);
    for (int64_t begin = 0; begin < target.numel(); begin += kPiece)
      pieces.push_back({&gguf.tensor(weight.gguf_name), target.flatten(), begin,
                        std::min(begin + kPiece, target.numel())});
    total += target.numel();
  }
  std::atomic<int64_t> done = 0;
  at::parallel_for(0, static_cast<int64_t>(pieces.size()), 1, [&](int64_t first, int64_t last) {
    const at::NoGradGuard no_grad;
    std::vector<float> expanded;
    for (int64_t i = first; i < last; ++i) {
      const auto& [source, target, begin, end] = pieces[static_cast<size_t>(i)];
      const GgmlBlock block = *block_of(static_cast<uint32_t>(source->type));
      const auto data =
          source->data.subspan(static_cast<size_t>(begin) / block.elements * block.bytes,
                               static_cast<size_t>(end - begin) / block.elements * block.bytes);
      at::Tensor part = target.slice(0, begin, end);
      if (options.dtype == at::kFloat) {
        dequantize(source->type, data,
                   {part.mutable_data_ptr<float>(), static_cast<size_t>(end - begin)});
      } else {
        expanded.resize(static_cast<size_t>(end - begin));
        dequantize(source->type, data, expanded);
        part.copy_(at::from_blob(expanded.data(), {end - begin}, at::kFloat));
      }
      const int64_t now = done += end - begin;
      if (options.on_progress && at::get_thread_num() == 0)
        options.on_progress(static_cast<uint64_t>(now), static_cast<uint64_t>(total));
    }
  });
  for (const WeightPlan& weight : plan) {
    at::Tensor& tensor = weights.at(weight.name);
    if (weight.rotated_heads > 0) tensor = rotate_halves(tensor, weight.rotated_heads);
    if (!tensor.isfinite().all().item<bool>())
      fail("{}: tensor {} holds NaN or infinity as {}, expected finite weights", gguf.source(),
           weight.gguf_name, dtype_name(options.dtype));
  }
  if (options.on_progress)
    options.on_progress(static_cast<uint64_t>(total), static_cast<uint64_t>(total));
  return weights;
}

}  // namespace

LanguageModelConfig config_from_gguf(const Gguf& gguf) {
  constexpr uint64_t kMaxWidth = 1 << 20;
  const std::string& source = gguf.source();
  if (const std::string architecture = gguf.string("general.architecture"); architecture != "llama")
    fail("{}: found the architecture {}, expected llama; vyx has no other yet", source,
         quote(architecture));
  refuse_unknown_hyperparameters(gguf);

  LanguageModelConfig config{
      .name = gguf.find("general.name") ? gguf.string("general.name") : "unnamed",
      .architecture = "llama"};
  config.layers = size_of(gguf, "llama.block_count", 4096);
  config.d_model = size_of(gguf, "llama.embedding_length", kMaxWidth);
  config.d_ff = size_of(gguf, "llama.feed_forward_length", kMaxWidth);
  config.heads = size_of(gguf, "llama.attention.head_count", kMaxWidth);
  config.kv_heads = size_or(gguf, "llama.attention.head_count_kv", kMaxWidth, config.heads);
  config.context_length = size_of(gguf, "llama.context_length", 1 << 30);
  config.norm_epsilon = as_written(positive(gguf, "llama.attention.layer_norm_rms_epsilon"));
  if (gguf.find("llama.rope.freq_base"))
    config.rope_base = as_written(positive(gguf, "llama.rope.freq_base"));

  if (!gguf.find("llama.attention.key_length") && config.d_model % config.heads != 0) {
    fail("{}: llama.embedding_length = {} is no multiple of llama.attention.head_count = {}",
         source, config.d_model, config.heads);
  }
  config.head_dim =
      size_or(gguf, "llama.attention.key_length", kMaxWidth, config.d_model / config.heads);
  for (const char* key : {"llama.attention.value_length", "llama.rope.dimension_count"}) {
    if (const int64_t found = size_or(gguf, key, kMaxWidth, config.head_dim);
        found != config.head_dim)
      fail("{}: found {} = {}, expected the head's width of {}; vyx has no other yet", source, key,
           found, config.head_dim);
  }

  // The embedding has the last word on the vocabulary; it may have rows beyond the tokenizer's.
  const GgufTensor& embedding = gguf.tensor("token_embd.weight");
  if (embedding.shape.size() != 2 || embedding.shape[1] > kMaxToken)
    fail("{}: tensor token_embd.weight has the shape [{}], expected [embedding_length, vocabulary]",
         source, fmt::join(embedding.shape, ", "));
  config.vocabulary = static_cast<int64_t>(embedding.shape[1]);
  if (gguf.find("tokenizer.ggml.tokens")) {
    const size_t tokens = gguf.array<std::string>("tokenizer.ggml.tokens").size();
    if (tokens > static_cast<size_t>(config.vocabulary))
      fail(
          "{}: found {} tokens in tokenizer.ggml.tokens, expected at most the {} rows of "
          "token_embd.weight",
          source, tokens, config.vocabulary);
  }
  config.tied_embeddings = !gguf.find_tensor("output.weight");

  config.bos_token = token_of(gguf, "bos", config.vocabulary);
  config.pad_token = token_of(gguf, "padding", config.vocabulary);
  for (const char* name : {"eos", "eot"}) {
    const int64_t token = token_of(gguf, name, config.vocabulary);
    if (token >= 0 && std::find(config.end_tokens.begin(), config.end_tokens.end(), token) ==
                          config.end_tokens.end())
      config.end_tokens.push_back(token);
  }
  // Where the file is silent, Llama 3's tokenizer alone begins with it.
  const bool is_llama3 =
      gguf.find("tokenizer.ggml.pre") && gguf.string("tokenizer.ggml.pre") == "llama-bpe";
  config.add_bos =
      config.bos_token >= 0 && flag_or(gguf, "tokenizer.ggml.add_bos_token", is_llama3);
  if (gguf.find("tokenizer.chat_template"))
    config.chat_format = detect_chat_format(gguf.string("tokenizer.chat_template"));
  validate(config, source);
  return config;
}

ImportResult import_gguf(const std::filesystem::path& source, const std::filesystem::path& out,
                         const ImportOptions& options) {
  const std::string dtype = dtype_name(options.dtype);
  require_writable(out);
  const GgufFile file(source);
  const Gguf& gguf = *file;
  LanguageModelConfig config = config_from_gguf(gguf);
  const std::string tokenizer_json = tokenizer_json_from_gguf(gguf);
  Tokenizer::from_json(tokenizer_json,
                       gguf.source());  // what the archive's reader would refuse is refused now
  const std::vector<WeightPlan> plan = weights_of(config);
  check_tensors(gguf, plan);
  config.dtype = dtype;
  config.source_sha256 = sha256(file.bytes());

  const std::map<std::string, at::Tensor> weights = expand(gguf, plan, options);
  const torch::jit::Module module = make_llama(
      config, [&](const std::string& name, at::IntArrayRef) { return weights.at(name); });
  save_language_model(module, config, tokenizer_json, out);

  ImportResult result{.config = std::move(config), .parameters = 0, .tensors = weights.size()};
  for (const auto& [name, tensor] : weights)
    result.parameters += static_cast<uint64_t>(tensor.numel());
  return result;
}

}  // namespace vyx::models
