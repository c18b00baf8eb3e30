#include "tests/torch_support.h"

#include <cmath>
#include <functional>
#include <limits>

#include "core/base/json_guard.h"
#include "core/hooks/script_archive.h"
#include "core/io/digest.h"
#include "models/importers/gguf_tokenizer.h"
#include "tests/models/tiny_model.h"

using namespace vyx;
using namespace vyx::models;
using test::contains;
using test::error_of;
using test::TinyGguf;

namespace {

/// The message with which a file is refused; nothing may be left of the archive.
std::string refusal(const TinyGguf& gguf, const ImportOptions& options = {}) {
  const test::TemporaryFolder folder;
  gguf.write(folder / "bad.gguf");
  const std::string message =
      error_of([&] { import_gguf(folder / "bad.gguf", folder / "out.pt", options); });
  CHECK(contains(message, "bad.gguf"));
  CHECK_FALSE(contains(message, "\n"));
  CHECK_FALSE(std::filesystem::exists(folder / "out.pt"));
  return message;
}

TinyGguf with(const std::string& key, GgufValue value) {
  return TinyGguf().set(key, std::move(value));
}
TinyGguf without(const std::string& key) {
  return TinyGguf().erase(key);
}

GgufValue u32(uint32_t value) {
  return value;
}

}  // namespace

TEST_CASE(
    "[models.gguf_importer] the archive has the weights under Hugging Face's names, queries and "
    "keys in its order") {
  const TinyGguf gguf({.seed = 1, .tied = false});
  LanguageModel model = test::tiny_model(gguf);
  const auto parameters = [&] {
    std::map<std::string, at::Tensor> named;
    for (const auto& parameter : model.module().module().named_parameters())
      named[parameter.name] = parameter.value;
    return named;
  }();
  CHECK(parameters.size() == gguf.tensors.size());
  const auto ours = [&](const std::string& name) { return parameters.at(name); };
  const auto theirs = [&](const std::string& name) {
    for (const auto& tensor : gguf.tensors) {
      if (tensor.name != name) continue;
      std::vector<int64_t> shape(tensor.shape.rbegin(), tensor.shape.rend());
      return at::tensor(tensor.data).view(shape);
    }
    throw std::runtime_error(name);
  };
  CHECK(at::equal(ours("model.embed_tokens.weight"), theirs("token_embd.weight")));
  CHECK(at::equal(ours("lm_head.weight"), theirs("output.weight")));
  CHECK(at::equal(ours("model.norm.weight"), theirs("output_norm.weight")));
  CHECK(at::equal(ours("model.layers.2.mlp.down_proj.weight"), theirs("blk.2.ffn_down.weight")));
  CHECK(at::equal(ours("model.layers.1.post_attention_layernorm.weight"),
                  theirs("blk.1.ffn_norm.weight")));
  CHECK(at::equal(ours("model.layers.0.self_attn.v_proj.weight"), theirs("blk.0.attn_v.weight")));
  // A head's rows 0, 1, 2, 3, … are Hugging Face's rows 0, half, 1, half + 1, …
  const at::Tensor q = ours("model.layers.0.self_attn.q_proj.weight"),
                   permuted = theirs("blk.0.attn_q.weight");
  for (int64_t head = 0; head < 4; ++head) {
    for (int64_t row = 0; row < 8; ++row)
      CHECK(at::equal(permuted[head * 8 + row], q[head * 8 + row % 2 * 4 + row / 2]));
  }
}

TEST_CASE("[models.gguf_importer] the config says what the file says") {
  const test::TemporaryFolder folder;
  const TinyGguf gguf({.tied = false});
  gguf.write(folder / "tiny.gguf");
  uint64_t done = 0, total = 0;
  const ImportResult result = import_gguf(folder / "tiny.gguf", folder / "tiny.pt",
                                          {.on_progress = [&](uint64_t d, uint64_t t) {
                                            CHECK(d >= done);
                                            done = d;
                                            total = t;
                                          }});
  CHECK(done == result.parameters);
  CHECK(total == result.parameters);
  CHECK(result.tensors == gguf.tensors.size());
  const LanguageModel model = LanguageModel::load(folder / "tiny.pt");
  CHECK(model.config() == result.config);
  const DecoderSpec spec{.d_model = 32,
                         .vocabulary = 261,
                         .blocks = std::vector<BlockSpec>(3),
                         .norm_epsilon = 1e-5,
                         .attention = {.heads = 4, .kv_heads = 2, .head_dim = 8},
                         .mlp = {.width = 64},
                         .rotary = {{.base = 10000, .width = 8}},
                         .tied_head = false};
  CHECK(model.config() ==
        LanguageModelConfig{
            .architecture = "llama",
            .context_length = 512,
            .spec = spec,
            .tokens = {.bos = 1, .pad = 2, .ends = {2}},
            .provenance = {.name = "Tiny", .sha256 = sha256_file(folder / "tiny.gguf")}});
}

TEST_CASE("[models.gguf_importer] a tied embedding is stored once") {
  const test::TemporaryFolder folder;
  TinyGguf({.tied = true}).write(folder / "tied.gguf");
  TinyGguf({.tied = false}).write(folder / "untied.gguf");
  for (const char* name : {"tied", "untied"})
    import_gguf(folder / (std::string(name) + ".gguf"), folder / (std::string(name) + ".pt"));
  const auto size = [&](const char* name) { return std::filesystem::file_size(folder / name); };
  CHECK(size("untied.pt") - size("tied.pt") >= 261 * 32 * 4);
  const auto parameters = load_script(folder / "tied.pt").module;
  CHECK(parameters.attr("lm_head").toModule().attr("weight").toTensor().data_ptr() ==
        parameters.attr("model")
            .toModule()
            .attr("embed_tokens")
            .toModule()
            .attr("weight")
            .toTensor()
            .data_ptr());
}

TEST_CASE("[models.gguf_importer] weights may be narrower, and the logits are then near") {
  const TinyGguf gguf({.seed = 2});
  LanguageModel exact = test::tiny_model(gguf);
  const Batch batch =
      make_batch(std::vector<std::vector<TokenId>>{{1, 2, 3, 4, 5}, {9}}, Padding::left, 2);
  const at::Tensor expected = exact.logits(batch);
  for (const at::ScalarType dtype : {at::kBFloat16, at::kHalf}) {
    LanguageModel model = test::tiny_model(gguf, {.dtype = dtype});
    CHECK(model.config().dtype == std::string(dtype == at::kHalf ? "float16" : "bfloat16"));
    const at::Tensor logits = model.logits(batch);
    CHECK((logits.scalar_type() == at::kFloat));
    const double difference = ((logits - expected).norm() / expected.norm()).item<double>();
    CHECK(difference < (dtype == at::kHalf ? 0.01 : 0.05));
    CHECK(difference > 0);
    KvCache cache = model.make_cache(2, 8);
    CHECK((model.extend(cache, batch).scalar_type() == dtype));
  }
  const test::TemporaryFolder folder;
  gguf.write(folder / "tiny.gguf");
  CHECK_THROWS_AS(import_gguf(folder / "tiny.gguf", folder / "x.pt", {.dtype = at::kDouble}),
                  UsageError);
}

TEST_CASE("[models.gguf_importer] each hyperparameter that cannot be is refused by name") {
  const std::string embedding = "llama.embedding_length", heads = "llama.attention.head_count";
  CHECK(contains(refusal(with("general.architecture", std::string("mamba"))),
                 "\"mamba\", expected llama"));
  CHECK(contains(refusal(without("general.architecture")), "general.architecture"));
  for (const char* key : {"llama.block_count", "llama.context_length", "llama.embedding_length",
                          "llama.feed_forward_length", "llama.attention.head_count",
                          "llama.attention.layer_norm_rms_epsilon"}) {
    CAPTURE(key);
    CHECK(contains(refusal(without(key)), key));
    CHECK(contains(refusal(with(key, u32(0))), key));
    CHECK(contains(refusal(with(key, std::string("many"))), key));
  }
  CHECK(contains(refusal(with("llama.block_count", u32(1u << 31))), "llama.block_count"));
  CHECK(contains(refusal(with("llama.block_count", u32(4))), "blk.3.attn_norm.weight"));
  CHECK(contains(refusal(with("llama.block_count", u32(2))), "blk.2."));
  CHECK(contains(refusal(with(heads, u32(5))), "no multiple of llama.attention.head_count = 5"));
  CHECK(contains(refusal(with("llama.attention.head_count_kv", u32(3))), "3 key-value heads"));
  CHECK(contains(refusal(with("llama.attention.head_count_kv", u32(0))), "head_count_kv"));
  CHECK(contains(refusal(with(heads, u32(32))), "head_dim = 1"));
  CHECK(contains(refusal(with(embedding, u32(64))), "token_embd.weight"));
  for (const float bad : {0.0f, -1.0f, std::numeric_limits<float>::quiet_NaN(), INFINITY}) {
    CHECK(contains(refusal(with("llama.rope.freq_base", bad)), "llama.rope.freq_base"));
    CHECK(contains(refusal(with("llama.attention.layer_norm_rms_epsilon", bad)),
                   "layer_norm_rms_epsilon"));
  }
  CHECK(contains(refusal(with("llama.rope.dimension_count", u32(4))),
                 "llama.rope.dimension_count = 4"));
}

TEST_CASE("[models.gguf_importer] what vyx does not compute is refused by name, never left out") {
  CHECK(contains(refusal(with("llama.rope.scaling.type", std::string("yarn"))), "\"yarn\""));
  CHECK(
      contains(refusal(with("llama.rope.scaling.factor", 8.0f)), "llama.rope.scaling.factor = 8"));
  CHECK(contains(refusal(with("llama.expert_count", u32(8))), "llama.expert_count"));
  CHECK(contains(refusal(with("llama.attention.new_idea", u32(1))), "llama.attention.new_idea"));
  test::tiny_model(
      with("llama.rope.scaling.type", std::string("none")));  // says that there is none
  TinyGguf frequencies;
  frequencies.tensors.push_back({"rope_freqs.weight", {4}, {1, 1, 1, 1}});
  CHECK(contains(refusal(frequencies), "rope_freqs.weight"));
}

TEST_CASE("[models.gguf_importer] missing, unknown, misshapen and damaged tensors are named") {
  TinyGguf missing;
  std::erase_if(missing.tensors,
                [](const auto& tensor) { return tensor.name == "blk.1.ffn_up.weight"; });
  CHECK(contains(refusal(missing), "blk.1.ffn_up.weight"));
  TinyGguf unknown;
  unknown.tensors.push_back({"blk.0.attn_q.bias", {32}, std::vector<float>(32)});
  CHECK(contains(refusal(unknown), "blk.0.attn_q.bias"));
  TinyGguf misshapen;
  misshapen.tensors.back().shape = {32, 64};
  CHECK(contains(refusal(misshapen),
                 "blk.2.ffn_down.weight has the shape [32, 64], expected [64, 32]"));
  TinyGguf damaged;
  damaged.tensors.back().data[7] = NAN;
  CHECK(contains(refusal(damaged), "blk.2.ffn_down.weight holds NaN"));
  TinyGguf narrow;
  narrow.tensors.back().data[7] = 1e6f;
  CHECK(contains(refusal(narrow, {.dtype = at::kHalf}), "as float16"));
}

TEST_CASE("[models.gguf_importer] a vocabulary that does not hold together is refused") {
  using Strings = std::vector<std::string>;
  CHECK(contains(refusal(without("tokenizer.ggml.model")), "no tokenizer"));
  CHECK(contains(refusal(without("tokenizer.ggml.tokens")), "no tokenizer"));
  CHECK(contains(refusal(without("tokenizer.ggml.merges")), "no tokenizer"));
  CHECK(contains(refusal(with("tokenizer.ggml.model", std::string("llama"))),
                 "\"llama\", expected gpt2"));
  CHECK(contains(refusal(with("tokenizer.ggml.pre", std::string("falcon"))), "\"falcon\""));
  for (const TinyGguf& nameless :
       {without("tokenizer.ggml.pre"), with("tokenizer.ggml.pre", std::string("default"))}) {
    CHECK(contains(refusal(nameless), "tokenizer.ggml.pre"));
    CHECK(contains(refusal(nameless), "convert the model again"));
  }
  CHECK(contains(refusal(with("tokenizer.ggml.token_type", GgufArray(std::vector<int32_t>{1, 1}))),
                 "token_type has 2 elements"));
  CHECK(contains(refusal(with("tokenizer.ggml.token_type", GgufArray(std::vector<float>(261, 1)))),
                 "token_type\": found the type [f32], expected an array of integers"));
  CHECK(
      contains(refusal(with("tokenizer.ggml.token_type", GgufArray(std::vector<int32_t>(261, 9)))),
               "expected 1 to 6"));
  CHECK(contains(refusal(with("tokenizer.ggml.scores", GgufArray(std::vector<float>(3)))),
                 "scores has 3 elements"));
  CHECK(contains(refusal(with("tokenizer.ggml.scores", GgufArray(Strings(261, "0")))),
                 "scores\": found the type [str], expected an array of numbers"));
  CHECK(contains(refusal(with("tokenizer.ggml.merges", GgufArray(Strings{"h e", "q z"}))),
                 "needs the token \"qz\""));
  CHECK(contains(refusal(with("tokenizer.ggml.merges", GgufArray(Strings{"he"}))),
                 "two tokens with a space"));
  CHECK(contains(refusal(with("tokenizer.ggml.tokens", GgufArray(Strings(261, "same")))),
                 "are both \"same\""));
  CHECK(
      contains(refusal(with("tokenizer.ggml.tokens", GgufArray(Strings(500, "x")))), "500 tokens"));
  for (const char* token : {"bos", "eos", "padding"}) {
    const std::string key = fmt::format("tokenizer.ggml.{}_token_id", token);
    CHECK(contains(refusal(with(key, u32(261))), key + " = 261"));
  }
}

TEST_CASE("[models.gguf_importer] pre-tokenizers take the form that Hugging Face gives them") {
  const auto pre_tokenizer = [](const char* name) {
    TinyGguf gguf = with("tokenizer.ggml.pre", std::string(name));
    const std::string bytes = gguf_bytes(gguf.metadata, {});
    return parse_json(tokenizer_json_from_gguf(Gguf::parse(std::as_bytes(std::span(bytes)), name)),
                      name)["pre_tokenizer"];
  };
  CHECK(pre_tokenizer("gpt-2")["type"].get<std::string>() == "ByteLevel");
  CHECK(pre_tokenizer("gpt-2")["use_regex"].get<bool>() == true);
  CHECK(pre_tokenizer("smollm")["pretokenizers"][0]["type"].get<std::string>() == "Digits");
  CHECK(contains(
      pre_tokenizer("llama-bpe")["pretokenizers"][0]["pattern"]["Regex"].get<std::string>(),
      "\\p{N}{1,3}"));
  CHECK_FALSE(contains(
      pre_tokenizer("qwen2")["pretokenizers"][0]["pattern"]["Regex"].get<std::string>(), "{1,3}"));
  CHECK(pre_tokenizer("qwen2")["pretokenizers"][1]["use_regex"].get<bool>() == false);
  for (const char* name : {"llama3", "llama-v3", "smaug-bpe"})
    CHECK(pre_tokenizer(name) == pre_tokenizer("llama-bpe"));
}

TEST_CASE("[models.gguf_importer] valid values of another type than usual give the same model") {
  const LanguageModelConfig plain = test::tiny_model(TinyGguf()).config();
  const auto same = [&](const TinyGguf& gguf) {
    LanguageModelConfig config = test::tiny_model(gguf).config();
    config.provenance = plain.provenance;  // the file is another one
    return config == plain;
  };
  std::vector<uint32_t> types(261, 1);
  types[0] = types[1] = types[2] = 3;
  CHECK(same(with("tokenizer.ggml.token_type", GgufArray(types))));
  CHECK(same(with("llama.attention.head_count_kv", GgufArray(std::vector<int32_t>(3, 2)))));
  CHECK(same(with("llama.feed_forward_length", GgufArray(std::vector<uint64_t>(3, 64)))));
  CHECK(same(with("llama.context_length", uint64_t{512})));
  CHECK(same(with("tokenizer.ggml.add_bos_token", u32(0))));
  CHECK(same(with("tokenizer.ggml.scores", GgufArray(std::vector<double>(261)))));
  CHECK(same(with("llama.rope.scaling.type", std::string("linear"))));
  CHECK(test::tiny_model(with("tokenizer.ggml.add_bos_token", u32(1))).config().tokens.add_bos);
  for (const GgufValue& none : {GgufValue(u32(0xFFFFFFFF)), GgufValue(int32_t{-1}),
                                GgufValue(int64_t{-1}), GgufValue(uint64_t(-1))}) {
    CHECK(test::tiny_model(with("tokenizer.ggml.padding_token_id", none)).config().tokens.pad ==
          -1);
    CHECK(test::tiny_model(with("tokenizer.ggml.bos_token_id", none)).config().tokens.bos == -1);
  }
}

TEST_CASE("[models.gguf_importer] an array per block is one number, or refused by block") {
  const char* key = "llama.attention.head_count_kv";
  CHECK(contains(refusal(with(key, GgufArray(std::vector<int32_t>{2, 2, 4}))),
                 "has 2 in block 0 and 4 in block 2"));
  CHECK(contains(refusal(with(key, GgufArray(std::vector<int32_t>{2, 2}))), "has 2 numbers"));
  CHECK(contains(refusal(with(key, GgufArray(std::vector<int32_t>(3, -2)))), "expected 1 to"));
  CHECK(contains(refusal(with(key, GgufArray(std::vector<float>(3, 2)))), "array of integers"));
  CHECK(contains(refusal(with("tokenizer.ggml.add_bos_token", u32(2))), "add_bos_token"));
}

TEST_CASE("[models.gguf_importer] files of other things than models are named") {
  CHECK(contains(refusal(with("general.type", std::string("adapter"))), "found an adapter"));
  CHECK(contains(refusal(with("general.type", std::string("mmproj"))), "\"mmproj\""));
  CHECK(contains(refusal(with("general.architecture", std::string("controlvector"))), "--vector"));
  CHECK_NOTHROW(test::tiny_model(with("general.type", std::string("model"))));
}

namespace {

constexpr const char* kChatml =
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' "
    "}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

ImportResult imported(const TinyGguf& gguf) {
  const test::TemporaryFolder folder;
  gguf.write(folder / "chat.gguf");
  return import_gguf(folder / "chat.gguf", folder / "chat.pt");
}

}  // namespace

TEST_CASE("[models.gguf_importer] the marker that closes a turn ends generation, whatever eos is") {
  const auto gguf = [] {
    return with("tokenizer.chat_template", std::string(kChatml))
        .set("tokenizer.ggml.eos_token_id", u32(0))
        .set("tokenizer.ggml.eom_token_id", u32(7));
  };
  const ImportResult result = imported(gguf());
  CHECK(result.warnings.empty());
  CHECK(result.config.tokens.chat_format == ChatFormat{.name = "chatml", .system = ""});
  CHECK(result.config.tokens.ends == std::vector<int64_t>{0, 7, 2});
}

TEST_CASE("[models.gguf_importer] a chat's markers are control tokens, whatever the file says") {
  const auto chat = [] { return with("tokenizer.chat_template", std::string(kChatml)); };
  const LanguageModel right = test::tiny_model(chat());
  for (const TinyGguf& gguf :
       {chat().set("tokenizer.ggml.token_type", GgufArray(std::vector<int32_t>(261, 1))),
        chat().erase("tokenizer.ggml.token_type")}) {
    const ImportResult result = imported(gguf);
    REQUIRE(result.warnings.size() == 2);
    CHECK(contains(result.warnings[0], "\"<|im_start|>\" is no control token"));
    CHECK(contains(result.warnings[1], "\"<|im_end|>\" is no control token"));
    CHECK(test::tiny_model(gguf).encode_prompt("hi", /*chat=*/true) ==
          right.encode_prompt("hi", /*chat=*/true));
  }
}

TEST_CASE("[models.gguf_importer] a template that vyx cannot write is no format, and said") {
  const ImportResult other = imported(
      with("tokenizer.chat_template", std::string("{{ '<|im_start|>' }}{{ messages }}<|im_end|>")));
  CHECK(other.config.tokens.chat_format.empty());
  REQUIRE(other.warnings.size() == 1);
  CHECK(contains(other.warnings[0], "chats are refused"));
  TinyGguf gguf = with("tokenizer.chat_template", std::string(kChatml));
  for (auto& [key, value] : gguf.metadata)
    if (key == "tokenizer.ggml.tokens")
      std::get<std::vector<std::string>>(std::get<GgufArray>(value))[2] = "<|other|>";
  const ImportResult markerless = imported(gguf);
  CHECK(markerless.config.tokens.chat_format.empty());
  CHECK(markerless.warnings.size() == 1);
}

TEST_CASE("[models.gguf_importer] control tokens are special, user-defined ones are added only") {
  std::vector<int32_t> types(261, 1);
  types[0] = types[1] = types[2] = 3;
  types[260] = 4;
  const LanguageModel model = test::tiny_model(with("tokenizer.ggml.token_type", GgufArray(types)));
  CHECK(model.tokenizer().is_special(1));
  CHECK_FALSE(model.tokenizer().is_special(260));
  CHECK(model.tokenizer().encode("<|im_start|>he") == std::vector<TokenId>{1, 259});
}

TEST_CASE("[models.gguf_importer] an archive that cannot be written is refused before the work") {
  const test::TemporaryFolder folder;
  TinyGguf().write(folder / "tiny.gguf");
  CHECK(
      contains(error_of([&] { import_gguf(folder / "tiny.gguf", folder / "nowhere" / "out.pt"); }),
               "nowhere"));
  CHECK(contains(error_of([&] { import_gguf(folder / "missing.gguf", folder / "out.pt"); }),
                 "missing.gguf"));
}
