#include "tests/torch_support.h"

#include <set>

#include "models/architectures/decoder.h"
#include "models/architectures/families.h"

using namespace vyx;
using namespace vyx::models;
using test::contains;
using test::error_of;

namespace {

Gguf parsed(const std::string& bytes) {
  return Gguf::parse(std::as_bytes(std::span(bytes)), "test.gguf");
}

}  // namespace

TEST_CASE("[models.families] a file's family is the one of its architecture, or it is refused") {
  for (const Family* family : families()) {
    const std::string bytes = gguf_bytes({{"general.architecture", std::string(family->name)}}, {});
    CHECK(&family_of(parsed(bytes)) == family);
  }
  const std::string bytes = gguf_bytes({{"general.architecture", std::string("mamba")}}, {});
  CHECK(contains(error_of([&] { family_of(parsed(bytes)); }), "\"mamba\", expected llama"));
}

TEST_CASE("[models.families] every parameter of a Llama has a GGUF name of its own") {
  const DecoderSpec spec{.d_model = 8,
                         .vocabulary = 5,
                         .blocks = std::vector<BlockSpec>(12),
                         .attention = {.heads = 2, .kv_heads = 1, .head_dim = 4},
                         .mlp = {.width = 8},
                         .rotary = {{.width = 4}}};
  std::set<std::string> names;
  for (const Parameter& parameter : parameters_of(spec))
    names.insert(gguf_name(kLlama, parameter.name).name);
  CHECK(names.size() == 3 + 12 * 9);
  CHECK(names.contains("output.weight"));
  const GgufName q = gguf_name(kLlama, "model.layers.11.self_attn.q_proj.weight");
  CHECK(q.name == "blk.11.attn_q.weight");
  CHECK((q.transform == Transform::unpair_queries));
  CHECK(gguf_name(kLlama, "model.layers.3.self_attn.k_proj.bias").name == "blk.3.attn_k.bias");
  CHECK(contains(error_of([] { gguf_name(kLlama, "model.layers.0.self_attn.q_norm.weight"); }),
                 "self_attn.q_norm"));
}

TEST_CASE("[models.families] hyperparameters are read as they were written, the others refused") {
  const std::string bytes = gguf_bytes({{"toy.epsilon", 1e-5f},
                                        {"toy.width", uint32_t{12}},
                                        {"toy.experts", uint32_t{0}},
                                        {"toy.scaling", std::string("none")},
                                        {"other.width", uint32_t{13}}},
                                       {});
  const Gguf gguf = parsed(bytes);
  const GgufKeys keys(gguf, "toy");
  CHECK(keys.positive("epsilon") == 1e-5);
  CHECK(keys.positive_or("base", 7) == 7);
  CHECK(keys.size("width") == 12);
  CHECK(keys.size_or("height", 3) == 3);
  CHECK(contains(error_of([&] { keys.size("width", 11); }), "toy.width"));
  CHECK(contains(error_of([&] { keys.size("height"); }), "toy.height"));
  GgufKeys::Understood understood{.keys = {"epsilon", "width"},
                                  .neutral = {{"experts", 0}},
                                  .absent = {{"scaling", {"off", "none"}}}};
  keys.refuse_others(understood);
  understood.neutral["experts"] = 1;
  CHECK(contains(error_of([&] { keys.refuse_others(understood); }), "toy.experts = 0, expected 1"));
  understood.neutral["experts"] = 0;
  understood.absent["scaling"] = {"linear", "on"};
  CHECK(contains(error_of([&] { keys.refuse_others(understood); }), "\"none\", expected linear"));
  understood.absent.clear();
  CHECK(contains(error_of([&] { keys.refuse_others(understood); }), "\"toy.scaling\""));
}
