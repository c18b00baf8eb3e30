#include "models/importers/gguf_importer.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <atomic>
#include <limits>
#include <map>
#include <set>
#include <type_traits>
#include <utility>
#include <variant>

#include "core/base/error.h"
#include "core/base/text.h"
#include "core/io/digest.h"
#include "core/io/files.h"
#include "models/architectures/decoder.h"
#include "models/architectures/families.h"
#include "models/importers/gguf_tokenizer.h"
#include "models/language_model/language_model.h"
#include "models/tokenizer/chat_format.h"

namespace vyx::models {
namespace {

constexpr uint64_t kMaxToken = std::numeric_limits<int32_t>::max();
constexpr const char* kChatTemplate = "tokenizer.chat_template";

/// A bool, or an integer that is 0 or 1.
bool flag_or(const Gguf& gguf, std::string_view key, bool otherwise) {
  const GgufValue* value = gguf.find(key);
  if (!value) return otherwise;
  if (const bool* flag = std::get_if<bool>(value)) return *flag;
  return gguf.unsigned_integer(key, 0, 1) == 1;
}

bool is_minus_one(const GgufValue& value) {
  return std::visit(
      []<class T>(const T& held) {
        // Of narrow unsigned types it is a token.
        if constexpr (std::is_integral_v<T> && (std::is_signed_v<T> || sizeof(T) >= 4)) {
          return held == static_cast<T>(-1);
        } else {
          return false;
        }
      },
      value);
}

/// The id of a special token, -1 when the file names none: by -1, in any width, or not at all.
int64_t token_of(const Gguf& gguf, const char* name, int64_t vocabulary) {
  const std::string key = fmt::format("tokenizer.ggml.{}_token_id", name);
  const GgufValue* value = gguf.find(key);
  if (value == nullptr || is_minus_one(*value)) return -1;
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

/// A parameter of the model and the tensor that becomes it.
struct PlannedTensor {
  Parameter parameter;
  GgufName source;
};

std::vector<PlannedTensor> plan_of(const Family& family, const DecoderSpec& spec) {
  std::vector<PlannedTensor> plan;
  for (Parameter& parameter : parameters_of(spec)) {
    GgufName source = gguf_name(family, parameter.name);
    plan.push_back({std::move(parameter), std::move(source)});
  }
  return plan;
}

/// Checks that the file has exactly the planned tensors, in shapes and types that vyx reads, before
/// any is expanded.
void check_tensors(const Gguf& gguf, const std::vector<PlannedTensor>& plan,
                   const LanguageModelConfig& config) {
  std::set<std::string_view> planned;
  for (const auto& [parameter, from] : plan) {
    planned.insert(from.name);
    const GgufTensor& tensor = gguf.tensor(from.name);
    const std::vector<uint64_t> expected(parameter.shape.rbegin(),
                                         parameter.shape.rend());  // ggml's order
    if (tensor.shape != expected) {
      fail("{}: tensor {} has the shape [{}], expected [{}] from the hyperparameters",
           gguf.source(), from.name, fmt::join(tensor.shape, ", "), fmt::join(expected, ", "));
    }
    if (!can_dequantize(tensor.type))
      fail(
          "{}: tensor {} is of type {}, which vyx does not read yet; take the model in Q8_0, F16 "
          "or BF16 (smaller files mix types, unless llama-quantize was told to make them pure)",
          gguf.source(), from.name, name_of(tensor.type));
  }
  for (const GgufTensor& tensor : gguf.tensors()) {
    if (!planned.contains(tensor.name))
      fail("{}: found the tensor {}, which a {} model of {} blocks has no place for", gguf.source(),
           quote(tensor.name), config.architecture, config.spec.layers());
  }
}

at::Tensor unpaired(const at::Tensor& weight, int64_t heads) {  // [heads · head_dim, ..]
  return weight.unflatten(0, {heads, -1, 2}).transpose(1, 2).reshape(weight.sizes());
}

at::Tensor transformed(const at::Tensor& weight, Transform transform, const DecoderSpec& spec) {
  switch (transform) {
    case Transform::none:
      return weight;
    case Transform::unpair_queries:
      return unpaired(weight, spec.attention.heads);
    case Transform::unpair_keys:
      return unpaired(weight, spec.attention.kv_heads);
  }
  return weight;
}

/// Expands all weights, in pieces of about equal size on all threads.
std::map<std::string, at::Tensor> expand(const Gguf& gguf, const std::vector<PlannedTensor>& plan,
                                         const DecoderSpec& spec, const ImportOptions& options) {
  struct Piece {
    const GgufTensor* source;
    at::Tensor target;  // [elements], flat
    int64_t begin, end;
  };
  constexpr int64_t kPiece = 1 << 19;  // elements; whole blocks of every type
  std::vector<Piece> pieces;
  std::map<std::string, at::Tensor> weights;
  int64_t total = 0;
  for (const auto& [parameter, from] : plan) {
    const at::Tensor target = at::empty(parameter.shape, options.dtype);
    weights.emplace(parameter.name, target);
    for (int64_t begin = 0; begin < target.numel(); begin += kPiece)
      pieces.push_back({&gguf.tensor(from.name), target.flatten(), begin,
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
  for (const auto& [parameter, from] : plan) {
    at::Tensor& tensor = weights.at(parameter.name);
    tensor = transformed(tensor, from.transform, spec);
    if (!tensor.isfinite().all().item<bool>())
      fail("{}: tensor {} holds NaN or infinity as {}, expected finite weights", gguf.source(),
           from.name, dtype_name(options.dtype));
  }
  if (options.on_progress)
    options.on_progress(static_cast<uint64_t>(total), static_cast<uint64_t>(total));
  return weights;
}

/// The rows of the embedding, which may be more than the tokenizer's tokens.
int64_t vocabulary_of(const Gguf& gguf) {
  const GgufTensor& embedding = gguf.tensor("token_embd.weight");
  if (embedding.shape.size() != 2 || embedding.shape[1] > kMaxToken)
    fail("{}: tensor token_embd.weight has the shape [{}], expected [embedding_length, vocabulary]",
         gguf.source(), fmt::join(embedding.shape, ", "));
  if (gguf.find("tokenizer.ggml.tokens")) {
    const size_t tokens = gguf.array<std::string>("tokenizer.ggml.tokens").size();
    if (tokens > embedding.shape[1])
      fail(
          "{}: found {} tokens in tokenizer.ggml.tokens, expected at most the {} rows of "
          "token_embd.weight",
          gguf.source(), tokens, embedding.shape[1]);
  }
  return static_cast<int64_t>(embedding.shape[1]);
}

TokenConfig tokens_of(const Gguf& gguf, int64_t vocabulary) {
  TokenConfig tokens{.bos = token_of(gguf, "bos", vocabulary),
                     .pad = token_of(gguf, "padding", vocabulary)};
  const auto add_end = [&](int64_t token) {
    if (token >= 0 && std::find(tokens.ends.begin(), tokens.ends.end(), token) == tokens.ends.end())
      tokens.ends.push_back(token);
  };
  for (const char* name : {"eos", "eot", "eom"}) add_end(token_of(gguf, name, vocabulary));
  // Where the file is silent, Llama 3's tokenizer alone begins with it.
  tokens.add_bos =
      tokens.bos >= 0 && flag_or(gguf, "tokenizer.ggml.add_bos_token", is_llama3_tokenizer(gguf));
  if (!gguf.find(kChatTemplate)) return tokens;
  const ChatFormat format = detect_chat_format(gguf.string(kChatTemplate));
  const auto markers = chat_markers(format);
  const auto is_missing = [&](std::string_view marker) {
    return token_kind(gguf, marker) == TokenKind::none;
  };
  if (markers.empty() || std::any_of(markers.begin(), markers.end(), is_missing)) return tokens;
  tokens.chat_format = format;
  const auto& names = gguf.array<std::string>("tokenizer.ggml.tokens");
  add_end(std::find(names.begin(), names.end(), markers.back()) - names.begin());
  return tokens;
}

/// What the file says of chats and vyx has taken otherwise.
std::vector<std::string> chat_warnings(const Gguf& gguf, const ChatFormat& format) {
  if (!gguf.find(kChatTemplate)) return {};
  if (format.empty())
    return {fmt::format(
        "{}: the chat template is none that vyx can write; chats are refused, and templates of "
        "contrast sets are plain text",
        gguf.source())};
  std::vector<std::string> warnings;
  for (const std::string_view marker : chat_markers(format)) {
    if (token_kind(gguf, marker) != TokenKind::control)
      warnings.push_back(fmt::format(
          "{}: the chat template's {} is no control token in the file; it is taken for one",
          gguf.source(), quote(marker)));
  }
  return warnings;
}

/// Throws Error for GGUF files of other things than models.
void require_model(const Gguf& gguf) {
  if (gguf.find("general.type")) {
    const std::string type = gguf.string("general.type");
    if (type == "adapter")
      fail("{}: found an adapter (general.type), expected a model; merge it into its model first",
           gguf.source());
    if (type != "model")
      fail("{}: found general.type = {}, expected model", gguf.source(), quote(type));
  }
  if (gguf.find("general.architecture") && gguf.string("general.architecture") == "controlvector")
    fail("{}: found a control vector, expected a model; vyx-generate takes it as --vector",
         gguf.source());
}

}  // namespace

LanguageModelConfig config_from_gguf(const Gguf& gguf) {
  require_model(gguf);
  const Family& family = family_of(gguf);
  const GgufKeys keys(gguf, family.name);
  LanguageModelConfig config{
      .architecture = std::string(family.name),
      .spec = family.read_gguf(keys),
      .provenance = {.name = gguf.find("general.name") ? gguf.string("general.name") : "unnamed"}};
  config.context_length = keys.size("context_length", 1 << 30);
  config.spec.vocabulary = vocabulary_of(gguf);
  config.tokens = tokens_of(gguf, config.spec.vocabulary);
  validate(config, gguf.source());
  return config;
}

ImportResult import_gguf(const std::filesystem::path& source, const std::filesystem::path& out,
                         const ImportOptions& options) {
  const std::string dtype = dtype_name(options.dtype);
  require_writable(out);
  const GgufFile file(source);
  const Gguf& gguf = *file;
  LanguageModelConfig config = config_from_gguf(gguf);
  const ChatFormat& format = config.tokens.chat_format;
  std::vector<std::string> warnings = chat_warnings(gguf, format);
  const std::string tokenizer_json = tokenizer_json_from_gguf(gguf, chat_markers(format));
  Tokenizer::from_json(tokenizer_json,
                       gguf.source());  // what the archive's reader would refuse is refused now
  const std::vector<PlannedTensor> plan = plan_of(family_of(gguf), config.spec);
  check_tensors(gguf, plan, config);
  config.dtype = dtype;
  config.provenance.sha256 = sha256(file.bytes());

  const std::map<std::string, at::Tensor> weights = expand(gguf, plan, config.spec, options);
  const torch::jit::Module module = make_decoder(
      config.spec, [&](const std::string& name, at::IntArrayRef) { return weights.at(name); });
  save_language_model(module, config, tokenizer_json, out);

  ImportResult result{.config = std::move(config),
                      .parameters = 0,
                      .tensors = weights.size(),
                      .warnings = std::move(warnings)};
  for (const auto& [name, tensor] : weights)
    result.parameters += static_cast<uint64_t>(tensor.numel());
  return result;
}

}  // namespace vyx::models
