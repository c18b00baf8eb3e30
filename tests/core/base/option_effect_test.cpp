#include "core/base/option_effect.h"

#include <map>

#include "tests/test_support.h"

namespace {

using namespace vyx;
using vyx::test::contains;
using vyx::test::error_of;
using Kind = OptionCondition::Kind;

/// What --x's conditions say of a command line; `defaults` are of options that it lacks.
std::string said(const std::vector<OptionCondition>& conditions,
                 std::map<std::string, std::string> given,
                 std::map<std::string, std::string> defaults = {}) {
  const auto value = [&](const std::string& name) -> std::optional<std::string> {
    if (given.contains(name)) return given[name];
    if (defaults.contains(name)) return defaults[name];
    return std::nullopt;
  };
  return no_effect("x", conditions,
                   {[&](const std::string& name) { return given.contains(name); }, value});
}

}  // namespace

TEST_CASE("[base.option_effect] an option that needs another, or does nothing beside it") {
  const std::vector<OptionCondition> with = {{Kind::needs, {"a", "b", "c"}, {}}};
  CHECK(said(with, {{"d", ""}}) == "--x has no effect without --a, --b or --c");
  CHECK(said(with, {{"b", ""}}).empty());
  CHECK(said(with, {}, {{"b", "1"}}) != "");  // a default is not given
  const std::vector<OptionCondition> without = {{Kind::not_with, {"a", "b"}, {}}};
  CHECK(said(without, {{"b", ""}}) == "--x has no effect with --b");
  CHECK(said(without, {}, {{"b", "1"}}).empty());
}

TEST_CASE("[base.option_effect] an option that depends on another's value, given or by default") {
  const std::vector<OptionCondition> is = {{Kind::only_with, {"form"}, {"tanh", "l0-target"}}};
  CHECK(said(is, {{"form", "l0"}}) ==
        "--x has an effect only with --form tanh or l0-target; it is l0");
  CHECK(said(is, {}, {{"form", "l0"}}) ==
        "--x has an effect only with --form tanh or l0-target; it is l0, the default");
  CHECK(said(is, {}) == "--x has an effect only with --form tanh or l0-target; it is not given");
  CHECK(said(is, {{"form", "tanh"}}).empty());
  CHECK(said(is, {}, {{"form", "tanh"}}).empty());
  const std::vector<OptionCondition> is_not = {{Kind::unless, {"heat"}, {"0"}}};
  CHECK(said(is_not, {{"heat", "0.0"}}) == "--x has no effect with --heat 0.0");
  CHECK(said(is_not, {}, {{"heat", "0"}}) == "--x has no effect with --heat 0, the default");
  CHECK(said(is_not, {{"heat", "0.1"}}, {{"heat", "0"}}).empty());
}

TEST_CASE("[base.option_effect] all conditions must hold, and one may never") {
  CHECK(said({{Kind::needs, {"a"}, {}}, {Kind::not_with, {"b"}, {}}}, {{"a", ""}, {"b", ""}}) ==
        "--x has no effect with --b");
  CHECK(said({{Kind::never, {}, {"nothing here is random"}}}, {}) ==
        "--x has no effect: nothing here is random");
  CHECK(said({}, {}).empty());
}

TEST_CASE("[base.option_effect] conditions go to JSON and back, and read as help") {
  const std::vector<std::pair<OptionCondition, std::string>> all = {
      {{Kind::needs, {"a", "b"}, {}}, "only with --a or --b"},
      {{Kind::not_with, {"a"}, {}}, "not with --a"},
      {{Kind::only_with, {"a"}, {"1", "2"}}, "only with --a 1 or 2"},
      {{Kind::unless, {"a"}, {"0"}}, "not with --a 0"},
      {{Kind::never, {}, {"why"}}, "no effect here: why"}};
  for (const auto& [condition, text] : all) {
    CHECK(to_text(condition) == text);
    const OptionCondition again = option_condition_from_json(to_json(condition), "help");
    CHECK((again.kind == condition.kind && again.options == condition.options &&
           again.values == condition.values));
  }
  const auto error = [](const char* text) {
    return error_of([&] { option_condition_from_json(Json::parse(text), "help"); });
  };
  CHECK(contains(error(R"({"kind": "if", "options": [], "values": []})"),
                 "help: found a condition of kind \"if\""));
  CHECK(contains(error(R"({"kind": "needs", "options": [], "values": []})"), "names nothing"));
  CHECK(
      contains(error(R"({"kind": "only-with", "options": ["a"], "values": []})"), "names nothing"));
  CHECK(contains(error(R"({"kind": "needs", "options": [1], "values": []})"), "not all text"));
  CHECK(contains(error(R"({"kind": "needs", "values": []})"), "without a list of options"));
}
