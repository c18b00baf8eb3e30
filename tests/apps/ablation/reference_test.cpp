#include "apps/ablation/reference.h"

#include "core/base/error.h"
#include "tests/test_support.h"

namespace vyx::ablation {
namespace {

OrderedJson look_up(const std::string& name) {
  if (name == "layer") return 14;
  if (name == "half") return 0.5;
  if (name == "whole") return 2.0;
  if (name == "list") return OrderedJson{1, 2};
  if (name == "flag") return true;
  if (name == "recipe.k") return nullptr;
  if (name == "steps.vector.out") return "/v.gguf";
  fail("unknown {}", name);
}

OrderedJson replaced(const OrderedJson& value) {
  return substitute(value, look_up, "here");
}

TEST_CASE(
    "[ablation.reference] names in braces are replaced within text, and by their type where they "
    "stand alone") {
  CHECK(replaced("model.layers.{layer}:output") == "model.layers.14:output");
  CHECK(replaced("{layer}") == 14);
  CHECK(replaced("{list}") == OrderedJson{1, 2});
  CHECK(replaced("{flag}") == true);
  CHECK(replaced("{steps.vector.out}={half}") == "/v.gguf=0.5");
  CHECK(replaced("c={whole}") == "c=2");
  CHECK(replaced({{"a", {"{layer}", "x"}}, {"b", 1}}).dump() == R"({"a":[14,"x"],"b":1})");
}

TEST_CASE("[ablation.reference] the braces of site patterns and of JSON stay as they are") {
  for (const char* text : {"model.layers.{8..20}", "{a,b}", "{}", "{ layer }", "{8}", "{layer",
                           "{\"x\": 1}", "{a..b}", "{.a}", "{a.}"})
    CHECK(replaced(text) == text);
  CHECK(replaced("{{layer}..{layer}}") == "{14..14}");
}

TEST_CASE(
    "[ablation.reference] what has no value is left out where it stands alone, and refused within "
    "text") {
  CHECK(replaced("{recipe.k}").is_null());
  CHECK(replaced({{"k", "{recipe.k}"}, {"l", {"{recipe.k}", "x"}}}).dump() == R"({"l":["x"]})");
  CHECK(test::contains(test::error_of([] { replaced("k={recipe.k}"); }),
                       "here: \"k={recipe.k}\": recipe.k has no value in this cell"));
  CHECK(test::error_of([] { replaced("{nothing}"); }) == "unknown nothing");
}

TEST_CASE("[ablation.reference] the names that a value refers to are listed") {
  CHECK(references({{"a", "{x}-{y.z}"}, {"b", {"{x}", 3}}}) ==
        std::vector<std::string>{"x", "y.z", "x"});
  CHECK(references("model.layers.{8..20}").empty());
}

}  // namespace
}  // namespace vyx::ablation
