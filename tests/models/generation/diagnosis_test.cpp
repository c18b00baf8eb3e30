#include "tests/torch_support.h"

#include <cmath>

#include "core/edits/attached_edit.h"
#include "models/generation/diagnosis.h"
#include "models/generation/generate.h"
#include "tests/models/tiny_model.h"

using namespace vyx;
using namespace vyx::models;
using test::contains;
using test::error_of;
using test::tiny_model;
using Rows = std::vector<std::vector<TokenId>>;

namespace {

/// The model with block 1's output so large that it is beyond float16, but not beyond bfloat16.
test::TinyGguf large() {
  test::TinyGguf gguf;
  for (auto& tensor : gguf.tensors)
    if (tensor.name == "blk.1.ffn_down.weight")
      for (float& value : tensor.data) value *= 3e4f;
  return gguf;
}

std::string error_of_generating(LanguageModel& model) {
  return error_of([&] { generate(model, Rows{{10, 20, 30}}, {.max_tokens = 4}); });
}

}  // namespace

TEST_CASE("[models.diagnosis] logits that choose no token") {
  CHECK(problem_of(at::tensor({1.0f, 2.0f})) == nullptr);
  CHECK(problem_of(at::tensor({1.0f, -INFINITY})) == nullptr);
  CHECK(problem_of(at::tensor({3.0f})) == nullptr);
  CHECK(std::string(problem_of(at::tensor({1.0f, NAN}))) == "NaN");
  CHECK(std::string(problem_of(at::tensor({1.0f, INFINITY}))) == "infinite");
  CHECK(std::string(problem_of(at::tensor({0.0f, 0.0f}))) == "one number for every token");
}

TEST_CASE("[models.diagnosis] an edit that is too large is an error that names its block") {
  LanguageModel model = tiny_model({.seed = 3});
  CHECK(error_of_generating(model).empty());
  for (const double size : {1e25, 1e30}) {  // finite numbers, whose squares are not
    CAPTURE(size);
    const AttachedEdit edit =
        attach(model.module(), model.block_output(1), Edit({Term::add(at::full({32}, size))}));
    const std::string error = error_of_generating(model);
    CHECK(contains(error, "one number for every token"));
    CHECK(contains(error, "the output of model.layers.1 is the first beyond what float32 holds"));
    CHECK(contains(error, "give a smaller coefficient"));
  }
  // Of the generated tokens alone.
  const AttachedEdit edit =
      attach(model.module(), model.block_output(0), Edit({Term::add(at::full({32}, 1e30))}),
             {.positions = Positions::generated});
  CHECK(contains(error_of_generating(model), "the output of model.layers.0 is the first"));
}

TEST_CASE("[models.diagnosis] a type that is too narrow is named, and no edit") {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    LanguageModel model = tiny_model(large(), {.dtype = dtype});
    CHECK(error_of_generating(model).empty());
  }
  LanguageModel half = tiny_model(large(), {.dtype = at::kHalf});
  const std::string error = error_of_generating(half);
  CHECK(contains(error, "the output of model.layers.1 is the first beyond what float16 holds"));
  CHECK(contains(error, "--dtype bfloat16"));
  CHECK_FALSE(contains(error, "coefficient"));
}
