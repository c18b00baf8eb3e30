#include "tests/torch_support.h"

#include <cmath>
#include <functional>
#include <map>
#include <numbers>
#include <set>
#include <string>

#include "models/architectures/decoder.h"

using namespace vyx;
using namespace vyx::models;
using test::contains;
using test::error_of;

namespace {

using Weights = std::map<std::string, at::Tensor>;

DecoderSpec tiny_spec() {
  return {.d_model = 24,
          .vocabulary = 29,
          .blocks = std::vector<BlockSpec>(3),
          .attention = {.heads = 4, .kv_heads = 2, .head_dim = 8},
          .mlp = {.width = 20},
          .rotary = {{.base = 100, .width = 8}}};
}

struct Variant {
  const char* name;
  DecoderSpec spec;
};

/// The tiny decoder with each of the options, and with many of them.
std::vector<Variant> variants() {
  std::vector<Variant> all;
  const auto add = [&](const char* name, const std::function<void(DecoderSpec&)>& change) {
    all.push_back({name, tiny_spec()});
    change(all.back().spec);
  };
  add("LayerNorm", [](DecoderSpec& s) { s.norm = NormKind::layer; });
  add("a large epsilon", [](DecoderSpec& s) { s.norm_epsilon = 0.5; });
  add("norms after", [](DecoderSpec& s) { s.norm_placement = NormPlacement::after; });
  add("norms around", [](DecoderSpec& s) { s.norm_placement = NormPlacement::around; });
  add("parallel", [](DecoderSpec& s) { s.norm_placement = NormPlacement::parallel; });
  add("biases of q, k, v", [](DecoderSpec& s) { s.attention.input_bias = true; });
  add("a bias of o", [](DecoderSpec& s) { s.attention.output_bias = true; });
  add("norms of heads",
      [](DecoderSpec& s) { s.attention.query_key_norm = QueryKeyNorm::per_head; });
  add("norms of q and k", [](DecoderSpec& s) { s.attention.query_key_norm = QueryKeyNorm::whole; });
  add("a score cap", [](DecoderSpec& s) { s.attention.score_cap = 1.5; });
  add("a scale", [](DecoderSpec& s) { s.blocks[1].attention_scale = 1.25; });
  add("a scale and a score cap", [](DecoderSpec& s) {
    s.attention.score_cap = 1.5;
    s.blocks[2].attention_scale = 0.9;
  });
  add("a window", [](DecoderSpec& s) { s.blocks[0].window = s.blocks[2].window = 4; });
  add("two windows", [](DecoderSpec& s) {
    s.blocks[0].window = 1;
    s.blocks[1].window = 3;
  });
  add("more key heads", [](DecoderSpec& s) { s.attention.kv_heads = 4; });
  add("rotation of a part", [](DecoderSpec& s) { s.rotary[0].width = 4; });
  add("a block without rotation",
      [](DecoderSpec& s) { s.blocks[1].rotary = BlockSpec::kNoRotary; });
  add("two rotations", [](DecoderSpec& s) {
    s.rotary.push_back({.base = 7, .width = 6});
    s.blocks[1].rotary = 1;
  });
  add("linear scaling", [](DecoderSpec& s) { s.rotary[0].linear_factor = 8; });
  add("Llama 3 scaling", [](DecoderSpec& s) {
    s.rotary[0].llama3 = {.factor = 8, .low_factor = 1, .high_factor = 4, .original_context = 64};
  });
  add("GELU", [](DecoderSpec& s) { s.mlp.activation = Activation::gelu; });
  add("tanh-GELU", [](DecoderSpec& s) { s.mlp.activation = Activation::gelu_tanh; });
  add("an MLP without gate", [](DecoderSpec& s) { s.mlp.gated = false; });
  add("an MLP with biases", [](DecoderSpec& s) { s.mlp.bias = true; });
  add("an embedding scale", [](DecoderSpec& s) { s.embedding_scale = 3; });
  add("a residual scale", [](DecoderSpec& s) { s.residual_scale = 0.3; });
  add("a logit divisor", [](DecoderSpec& s) { s.logit_divisor = 4; });
  add("a logit cap", [](DecoderSpec& s) { s.logit_cap = 2; });
  add("a tied head", [](DecoderSpec& s) { s.tied_head = true; });
  add("many of them", [](DecoderSpec& s) {
    s.norm_placement = NormPlacement::around;
    s.attention = {.heads = 4,
                   .kv_heads = 2,
                   .head_dim = 8,
                   .input_bias = true,
                   .output_bias = true,
                   .query_key_norm = QueryKeyNorm::per_head,
                   .score_cap = 3};
    s.mlp = {.width = 20, .gated = false, .activation = Activation::gelu_tanh, .bias = true};
    s.rotary = {{.base = 50, .width = 8, .linear_factor = 2}, {.base = 9, .width = 4}};
    s.blocks = {{.window = 3, .rotary = 1, .attention_scale = 0.5},
                {.rotary = BlockSpec::kNoRotary},
                {.window = 5, .attention_scale = 0.7}};
    s.embedding_scale = 2;
    s.residual_scale = 0.5;
    s.logit_divisor = 2;
    s.logit_cap = 5;
    s.tied_head = true;
  });
  return all;
}

struct Decoder {
  DecoderSpec spec;
  Weights weights;
  torch::jit::Module module;
};

/// With random weights, which depend on their names and shapes alone.
Decoder make(const DecoderSpec& spec) {
  Decoder decoder{.spec = spec};
  decoder.module = make_decoder(spec, [&](const std::string& name, at::IntArrayRef shape) {
    uint64_t seed = 7;
    for (const char letter : name) seed = seed * 31 + static_cast<unsigned char>(letter);
    at::Tensor weight = at::randn(shape, at::detail::createCPUGenerator(seed)) * 0.3;
    if (contains(name, "norm.weight")) weight += 1;
    decoder.weights[name] = weight;
    return weight;
  });
  return decoder;
}

/// By how much a position turns pair i, as the papers and Hugging Face have it.
double frequency(const RotarySpec& spec, int64_t i) {
  double f = std::pow(spec.base, -2.0 * static_cast<double>(i) / static_cast<double>(spec.width)) /
             spec.linear_factor;
  if (!spec.llama3) return f;
  const auto& [factor, low, high, length] = *spec.llama3;
  const double original = static_cast<double>(length), wave = 2 * std::numbers::pi / f;
  if (wave < original / high) return f;
  if (wave > original / low) return f / factor;
  const double t = (original / wave - low) / (high - low);
  return (1 - t) * f / factor + t * f;
}

/// What a spec means, in plain arithmetic and float64: a row at a time, a head at a time.
class Reference {
 public:
  explicit Reference(const Decoder& decoder) : spec_(decoder.spec), weights_(decoder.weights) {}

  at::Tensor logits(const at::Tensor& ids) const {  // [seq] -> [seq, vocabulary]
    at::Tensor x = weight("model.embed_tokens.weight").index({ids}) * spec_.embedding_scale;
    for (size_t k = 0; k < spec_.blocks.size(); ++k) {
      const std::string path = "model.layers." + std::to_string(k) + ".";
      const auto attend = [&](const at::Tensor& y) {
        return attention(path + "self_attn.", spec_.blocks[k], y);
      };
      const auto feed = [&](const at::Tensor& y) { return mlp(path + "mlp.", y); };
      const auto n = [&](const char* name, const at::Tensor& y) { return norm(path + name, y); };
      const double c = spec_.residual_scale;
      switch (spec_.norm_placement) {
        case NormPlacement::before:
          x = x + c * attend(n("input_layernorm", x));
          x = x + c * feed(n("post_attention_layernorm", x));
          break;
        case NormPlacement::after:
          x = x + c * n("post_attention_layernorm", attend(x));
          x = x + c * n("post_feedforward_layernorm", feed(x));
          break;
        case NormPlacement::around:
          x = x + c * n("post_attention_layernorm", attend(n("input_layernorm", x)));
          x = x + c * n("post_feedforward_layernorm", feed(n("pre_feedforward_layernorm", x)));
          break;
        case NormPlacement::parallel:
          x = x + c * (attend(n("input_layernorm", x)) + feed(n("post_attention_layernorm", x)));
          break;
      }
    }
    const char* const head = spec_.tied_head ? "model.embed_tokens.weight" : "lm_head.weight";
    return capped(norm("model.norm", x).matmul(weight(head).t()) / spec_.logit_divisor,
                  spec_.logit_cap);
  }

 private:
  at::Tensor weight(const std::string& name) const { return weights_.at(name).to(at::kDouble); }

  static at::Tensor capped(const at::Tensor& x, double cap) {
    return cap == 0 ? x : cap * (x / cap).tanh();
  }

  at::Tensor norm(const std::string& path, const at::Tensor& x) const {  // [.., d]
    if (spec_.norm == NormKind::rms)
      return x / (x.square().mean(-1, true) + spec_.norm_epsilon).sqrt() * weight(path + ".weight");
    const at::Tensor centred = x - x.mean(-1, true);
    return centred / (centred.square().mean(-1, true) + spec_.norm_epsilon).sqrt() *
               weight(path + ".weight") +
           weight(path + ".bias");
  }

  at::Tensor linear(const std::string& path, const at::Tensor& x, bool bias) const {
    const at::Tensor y = x.matmul(weight(path + ".weight").t());
    return bias ? y + weight(path + ".bias") : y;
  }

  static void turn(at::Tensor& x, const RotarySpec& rotary) {  // [seq, head_dim]
    const at::Tensor from = x.clone();
    const at::Tensor position = at::arange(x.size(0), at::kDouble);
    for (int64_t i = 0, half = rotary.width / 2; i < half; ++i) {
      const at::Tensor angle = position * frequency(rotary, i);
      const at::Tensor a = from.select(1, i), b = from.select(1, i + half);
      x.select(1, i).copy_(a * angle.cos() - b * angle.sin());
      x.select(1, i + half).copy_(b * angle.cos() + a * angle.sin());
    }
  }

  at::Tensor attention(const std::string& path, const BlockSpec& block,
                       const at::Tensor& x) const {  // [seq, d_model]
    const AttentionSpec& spec = spec_.attention;
    at::Tensor q = linear(path + "q_proj", x, spec.input_bias),
               k = linear(path + "k_proj", x, spec.input_bias);
    const at::Tensor v = linear(path + "v_proj", x, spec.input_bias);
    if (spec.query_key_norm == QueryKeyNorm::whole) {
      q = norm(path + "q_norm", q);
      k = norm(path + "k_norm", k);
    }
    const auto head_of = [&](const at::Tensor& all, int64_t head, const char* name) {
      at::Tensor one = all.narrow(1, head * spec.head_dim, spec.head_dim).clone();
      if (spec.query_key_norm == QueryKeyNorm::per_head) one = norm(path + name, one);
      if (block.rotary >= 0) turn(one, spec_.rotary[static_cast<size_t>(block.rotary)]);
      return one;  // [seq, head_dim]
    };
    const double scale =
        block.attention_scale.value_or(1 / std::sqrt(static_cast<double>(spec.head_dim)));
    const at::Tensor place = at::arange(x.size(0));
    const at::Tensor age = place.unsqueeze(1) - place.unsqueeze(0);  // [seq, seq]
    at::Tensor hidden = age < 0;
    if (block.window > 0) hidden = hidden | (age >= block.window);
    std::vector<at::Tensor> heads;
    for (int64_t h = 0; h < spec.heads; ++h) {
      const int64_t shared = h / (spec.heads / spec.kv_heads);
      const at::Tensor scores = capped(
          head_of(q, h, "q_norm").matmul(head_of(k, shared, "k_norm").t()) * scale, spec.score_cap);
      heads.push_back(scores.masked_fill(hidden, -INFINITY)
                          .softmax(1)
                          .matmul(v.narrow(1, shared * spec.head_dim, spec.head_dim)));
    }
    return linear(path + "o_proj", at::cat(heads, 1), spec.output_bias);
  }

  at::Tensor mlp(const std::string& path, const at::Tensor& x) const {
    const bool bias = spec_.mlp.bias;
    const at::Tensor up = linear(path + "up_proj", x, bias);
    const at::Tensor in = spec_.mlp.gated ? linear(path + "gate_proj", x, bias) : up;
    at::Tensor y;
    switch (spec_.mlp.activation) {
      case Activation::silu:
        y = in / (1 + (-in).exp());
        break;
      case Activation::gelu:
        y = in * 0.5 * (1 + (in / std::sqrt(2.0)).erf());
        break;
      case Activation::gelu_tanh:
        y = in * 0.5 * (1 + (std::sqrt(2 / std::numbers::pi) * (in + 0.044715 * in.pow(3))).tanh());
        break;
    }
    return linear(path + "down_proj", spec_.mlp.gated ? y * up : y, bias);
  }

  const DecoderSpec& spec_;
  const Weights& weights_;
};

double difference(const at::Tensor& a, const at::Tensor& b) {
  return ((a.to(at::kDouble) - b).abs().max() / b.abs().max()).item<double>();
}

/// Rows of several lengths, and their logits by the reference.
const std::vector<at::Tensor>& rows() {
  static const std::vector<at::Tensor> kRows = {
      at::tensor({3, 14, 15, 9, 26, 5, 3, 5, 8, 9, 7}, at::kLong),
      at::tensor({27, 18, 28, 1}, at::kLong), at::tensor({6, 2, 8, 3, 18, 5, 3}, at::kLong)};
  return kRows;
}

std::vector<at::Tensor> expected_of(const Decoder& decoder) {
  std::vector<at::Tensor> expected;
  for (const at::Tensor& row : rows()) expected.push_back(Reference(decoder).logits(row));
  return expected;
}

constexpr double kNear = 2e-5;

struct Cache {
  c10::List<at::Tensor> keys, values;
};

Cache cache_for(const DecoderSpec& spec, int64_t batch, int64_t capacity) {
  Cache cache;
  for (int64_t k = 0; k < spec.layers(); ++k) {
    for (auto* list : {&cache.keys, &cache.values})
      list->push_back(at::full({batch, spec.attention.kv_heads, capacity, spec.attention.head_dim},
                               NAN));  // what is read before it is written shows
  }
  return cache;
}

/// The logits [batch, seq, vocabulary] of tokens behind a cache.
at::Tensor extend(Decoder& decoder, const Cache& cache, const at::Tensor& ids, int64_t past,
                  const c10::IValue& mask = {}) {
  const at::Tensor hidden =
      decoder.module.get_method("hidden")({ids, mask, cache.keys, cache.values, past}).toTensor();
  return decoder.module.get_method("logits")({hidden}).toTensor();
}

}  // namespace

TEST_CASE("[models.decoder] each option gives what plain arithmetic gives") {
  const at::NoGradGuard no_grad;
  const torch::jit::GraphOptimizerEnabledGuard unoptimized(false);
  const std::vector<at::Tensor> plain = expected_of(make(tiny_spec()));
  std::vector<Variant> all = variants();
  all.push_back({"none", tiny_spec()});
  for (const auto& [name, spec] : all) {
    CAPTURE(name);
    Decoder decoder = make(spec);
    const std::vector<at::Tensor> expected = expected_of(decoder);
    // An option that changes nothing here would be held to nothing.
    if (std::string_view(name) != "none") CHECK(difference(expected[0], plain[0]) > 1e-3);
    for (size_t r = 0; r < rows().size(); ++r)
      CHECK(difference(decoder.module.forward({rows()[r].unsqueeze(0)}).toTensor()[0],
                       expected[r]) < kNear);
  }
}

TEST_CASE("[models.decoder] tokens behind a cache give what they give at once, by any option") {
  const at::NoGradGuard no_grad;
  const torch::jit::GraphOptimizerEnabledGuard unoptimized(false);
  const at::Tensor ids = rows()[0].unsqueeze(0);  // [1, 11]
  for (const auto& [name, spec] : variants()) {
    CAPTURE(name);
    Decoder decoder = make(spec);
    const at::Tensor expected = Reference(decoder).logits(rows()[0]);
    for (const int64_t step : {int64_t{1}, int64_t{3}}) {
      const Cache cache = cache_for(spec, 1, 16);
      std::vector<at::Tensor> parts;
      for (int64_t past = 0; past < ids.size(1); past += step)
        parts.push_back(extend(decoder, cache, ids.slice(1, past, past + step), past));
      CHECK(difference(at::cat(parts, 1)[0], expected) < kNear);
    }
  }
}

TEST_CASE("[models.decoder] padded rows give what they give alone, also behind a cache") {
  const at::NoGradGuard no_grad;
  const torch::jit::GraphOptimizerEnabledGuard unoptimized(false);
  const auto count = static_cast<int64_t>(rows().size());
  const at::Tensor next = at::tensor({4, 20, 11}, at::kLong);
  for (const auto& [name, spec] : variants()) {
    CAPTURE(name);
    Decoder decoder = make(spec);
    for (const bool left : {true, false}) {
      at::Tensor ids = at::zeros({count, 11}, at::kLong), mask = at::zeros({count, 14}, at::kBool);
      mask.narrow(1, 11, 3).fill_(true);
      for (int64_t r = 0; r < count; ++r) {
        const at::Tensor& row = rows()[static_cast<size_t>(r)];
        const int64_t begin = left ? 11 - row.size(0) : 0;
        ids[r].narrow(0, begin, row.size(0)).copy_(row);
        mask[r].narrow(0, begin, row.size(0)).fill_(true);
      }
      const Cache cache = cache_for(spec, count, 14);
      std::vector<at::Tensor> parts = {extend(decoder, cache, ids, 0, mask.narrow(1, 0, 11))};
      for (int64_t i = 0; i < 3; ++i)
        parts.push_back(
            extend(decoder, cache, next[i].expand({count, 1}), 11 + i, mask.narrow(1, 0, 12 + i)));
      const at::Tensor logits = at::cat(parts, 1);  // [rows, 14, vocabulary]
      CHECK(logits.isfinite().all().item<bool>());
      for (int64_t r = 0; r < count; ++r) {
        const at::Tensor whole = at::cat({rows()[static_cast<size_t>(r)], next});
        CHECK(difference(logits[r].index({mask[r]}), Reference(decoder).logits(whole)) < kNear);
      }
    }
  }
}

TEST_CASE("[models.decoder] segments of a row give what each gives alone, by any option") {
  const at::NoGradGuard no_grad;
  const torch::jit::GraphOptimizerEnabledGuard unoptimized(false);
  const at::Tensor packed = at::cat(rows()).unsqueeze(0);  // [1, 22]
  std::vector<at::Tensor> numbers;
  for (const at::Tensor& row : rows())
    numbers.push_back(at::full_like(row, static_cast<int64_t>(numbers.size()) + 1));
  const at::Tensor segments = at::cat(numbers).unsqueeze(0);
  for (const auto& [name, spec] : variants()) {
    CAPTURE(name);
    Decoder decoder = make(spec);
    const at::Tensor logits = decoder.module.forward({packed, c10::IValue(), segments}).toTensor();
    CHECK(difference(logits[0], at::cat(expected_of(decoder))) < kNear);
  }
}

TEST_CASE("[models.decoder] a run from a block on is bit-equal to the whole, by any option") {
  const at::NoGradGuard no_grad;
  const torch::jit::GraphOptimizerEnabledGuard unoptimized(false);
  const c10::List<at::Tensor> none;
  for (const auto& [name, spec] : variants()) {
    CAPTURE(name);
    Decoder decoder = make(spec);
    const at::Tensor ids = rows()[0].unsqueeze(0);
    auto model = decoder.module.attr("model").toModule();
    const at::Tensor embedded =
        model.attr("embed_tokens").toModule().forward({ids}).toTensor();  // [1, 11, d_model]
    const c10::IValue mask;
    CHECK(at::equal(
        decoder.module.get_method("hidden")({ids, mask, none, none, 0}).toTensor(),
        decoder.module.get_method("resume")({embedded, 0, mask, none, none, 0}).toTensor()));
  }
}

TEST_CASE("[models.decoder] parameters are named as Hugging Face names them, and only what acts") {
  const auto names_of = [](const DecoderSpec& spec) {
    std::set<std::string> names;
    for (const Parameter& parameter : parameters_of(spec)) names.insert(parameter.name);
    return names;
  };
  const std::string block = "model.layers.1.";
  const auto plain = names_of(tiny_spec());
  CHECK(plain.size() == 3 + 3 * 9);
  for (const char* name :
       {"input_layernorm.weight", "self_attn.q_proj.weight", "self_attn.k_proj.weight",
        "self_attn.v_proj.weight", "self_attn.o_proj.weight", "post_attention_layernorm.weight",
        "mlp.gate_proj.weight", "mlp.up_proj.weight", "mlp.down_proj.weight"})
    CHECK(plain.contains(block + name));
  for (const auto& [name, spec] : variants()) {
    if (std::string_view(name) != "many of them") continue;
    const auto many = names_of(spec);
    for (const char* added :
         {"self_attn.q_norm.weight", "self_attn.k_norm.weight", "self_attn.q_proj.bias",
          "self_attn.o_proj.bias", "mlp.up_proj.bias", "pre_feedforward_layernorm.weight",
          "post_feedforward_layernorm.weight"}) {
      CHECK(many.contains(block + added));
      CHECK_FALSE(plain.contains(block + added));
    }
    CHECK_FALSE(many.contains("lm_head.weight"));
    CHECK_FALSE(many.contains(block + "mlp.gate_proj.weight"));
  }
  for (const Parameter& parameter : parameters_of(tiny_spec())) {
    if (parameter.name == block + "self_attn.k_proj.weight")
      CHECK(parameter.shape == std::vector<int64_t>{16, 24});
  }
}

TEST_CASE("[models.decoder] a block's parts stand in the order in which they run") {
  const auto parts_of = [](NormPlacement placement) {
    DecoderSpec spec = tiny_spec();
    spec.norm_placement = placement;
    std::vector<std::string> parts;
    const std::string block = "model.layers.0.";
    for (const Parameter& parameter : parameters_of(spec)) {
      if (!parameter.name.starts_with(block)) continue;
      const std::string rest = parameter.name.substr(block.size());
      const std::string part = rest.substr(0, rest.find('.'));
      if (parts.empty() || parts.back() != part) parts.push_back(part);
    }
    return parts;
  };
  using Parts = std::vector<std::string>;
  CHECK(parts_of(NormPlacement::before) ==
        Parts{"input_layernorm", "self_attn", "post_attention_layernorm", "mlp"});
  CHECK(parts_of(NormPlacement::around) ==
        Parts{"input_layernorm", "self_attn", "post_attention_layernorm",
              "pre_feedforward_layernorm", "mlp", "post_feedforward_layernorm"});
  CHECK(parts_of(NormPlacement::after) ==
        Parts{"self_attn", "post_attention_layernorm", "mlp", "post_feedforward_layernorm"});
}

TEST_CASE("[models.decoder] a spec survives JSON with every option, and a damaged one is refused") {
  for (const auto& [name, spec] : variants()) {
    CAPTURE(name);
    Json config;
    add_to_json(spec, config);
    CHECK(decoder_spec_from_json(config, "config.json") == spec);
  }
  Json config;
  add_to_json(tiny_spec(), config);
  for (const char* option : {"norm", "blocks", "rotary", "hidden_act", "attention_bias"})
    CHECK_FALSE(config.contains(option));
  const auto spoilt = [&](const char* key, const Json& value) {
    Json copy = config;
    copy[key] = value;
    return error_of([&] { decoder_spec_from_json(copy, "config.json"); });
  };
  CHECK(contains(spoilt("hidden_act", "swish"), "\"swish\", expected one of silu, gelu"));
  CHECK(contains(spoilt("hidden_act", 3), "hidden_act"));
  CHECK(contains(spoilt("blocks", 3), "blocks"));
  CHECK(contains(spoilt("blocks", Json::array({Json::object()})), "found 1 blocks, expected"));
  CHECK(contains(spoilt("blocks", Json::array({3, 3, 3})), "expected objects"));
  CHECK(contains(spoilt("rotary", Json::array()), "rotary positions 0, expected one of 0 kinds"));
  CHECK(contains(spoilt("logits_scaling", 0), "logit_divisor = 0"));
  CHECK(contains(spoilt("final_logit_softcapping", -1), "logit_cap"));
}

TEST_CASE("[models.decoder] sizes that do not fit each other are refused") {
  const auto refusal = [](const std::function<void(DecoderSpec&)>& change) {
    DecoderSpec spec = tiny_spec();
    change(spec);
    return error_of([&] { validate(spec, "tiny"); });
  };
  CHECK(contains(refusal([](DecoderSpec& s) { s.blocks.clear(); }), "layers = 0"));
  CHECK(contains(refusal([](DecoderSpec& s) { s.attention.kv_heads = 3; }), "3 key-value heads"));
  CHECK(contains(refusal([](DecoderSpec& s) { s.rotary[0].width = 5; }), "width of 5"));
  CHECK(contains(refusal([](DecoderSpec& s) { s.rotary[0].width = 10; }), "width of 10"));
  CHECK(contains(refusal([](DecoderSpec& s) { s.blocks[1].rotary = 1; }), "positions 1"));
  CHECK(contains(refusal([](DecoderSpec& s) { s.blocks[1].window = -1; }), "window of -1"));
  CHECK(contains(refusal([](DecoderSpec& s) { s.blocks[1].attention_scale = 0; }), "scale = 0"));
  CHECK(contains(
      refusal([](DecoderSpec& s) { s.rotary[0].llama3 = {.low_factor = 4, .high_factor = 4}; }),
      "high_freq_factor"));
  CHECK(contains(error_of([] { make_decoder({}, {}); }), "layers = 0"));
}
