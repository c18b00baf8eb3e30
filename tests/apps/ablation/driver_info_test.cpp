#include "apps/ablation/driver_info.h"

#include "tests/test_support.h"

namespace vyx::ablation {
namespace {

using test::contains;
using test::error_of;

constexpr const char* kListed = R"({"name": "vyx-x", "options": [
  {"name": "out", "type": "text", "value": "FILE", "many": false, "required": true, "help": ""},
  {"name": "c", "type": "number", "value": "C", "many": true, "required": false, "help": ""},
  {"name": "method", "type": "text", "value": "pca-center|mean", "many": false, "required": false,
   "help": ""},
  {"name": "json", "type": "switch", "many": false, "required": false, "help": ""},
  {"name": "fast", "type": "switch", "many": false, "required": false, "help": ""}]})";

TEST_CASE(
    "[ablation.driver_info] options become a command line: a list repeats, a switch that is false "
    "is left out") {
  const DriverInfo info = parse_driver_info(kListed, "s");
  CHECK(info.option("out", "p").is_path());
  CHECK_FALSE(info.option("c", "p").is_path());
  const OrderedJson options{{"c", {-1, 2.5}}, {"fast", true}, {"out", "a b"}};
  CHECK(command_line(info, options, "p") ==
        std::vector<std::string>{"--c=-1", "--c=2.5", "--fast", "--out=a b"});
  CHECK(command_line(info, {{"out", "x"}, {"fast", false}}, "p") ==
        std::vector<std::string>{"--out=x"});
}

TEST_CASE(
    "[ablation.driver_info] what the driver would refuse is refused, with the place before it") {
  const DriverInfo info = parse_driver_info(kListed, "s");
  const auto error = [&](const OrderedJson& options) {
    return error_of([&] { command_line(info, options, "p"); });
  };
  CHECK(error({{"fast", true}}) == "p: vyx-x needs the option out");
  CHECK(error({{"out", ""}}) == "p: out: found \"\", expected text that is not empty");
  CHECK(error({{"out", true}}) == "p: out: found \"true\", expected text that is not empty");
  CHECK(contains(error({{"out", "x"}, {"fats", true}}),
                 "vyx-x has no option \"fats\"; did you mean fast?"));
  CHECK(contains(error({{"json", true}}), "--json is given to every driver already"));
}

TEST_CASE("[ablation.driver_info] a word that is none of an option's choices is refused") {
  const DriverInfo info = parse_driver_info(kListed, "s");
  CHECK(info.option("method", "p").choices() == std::vector<std::string>{"pca-center", "mean"});
  CHECK(info.option("out", "p").choices().empty());
  CHECK(command_line(info, {{"out", "x"}, {"method", "mean"}}, "p") ==
        std::vector<std::string>{"--out=x", "--method=mean"});
  CHECK(error_of([&] {
          command_line(info, {{"out", "x"}, {"method", "median"}}, "p");
        }) == "p: method: found \"median\", expected one of pca-center, mean");
}

TEST_CASE("[ablation.driver_info] an option without effect is refused, as the driver would") {
  const DriverInfo info = parse_driver_info(R"({"name": "vyx-x", "options": [
    {"name": "top-k", "type": "integer", "many": false, "required": false,
     "effect": [{"kind": "unless", "options": ["heat"], "values": ["0"]}]},
    {"name": "heat", "type": "number", "many": false, "required": false, "default": "0"},
    {"name": "fast", "type": "switch", "many": false, "required": false,
     "effect": [{"kind": "needs", "options": ["heat"], "values": []}]}]})",
                                            "s");
  const auto error = [&](const OrderedJson& options) {
    return error_of([&] { command_line(info, options, "p"); });
  };
  CHECK(error({{"top-k", 2}}) == "p: vyx-x: --top-k has no effect with --heat 0, the default");
  CHECK(error({{"top-k", 2}, {"heat", 0}}) == "p: vyx-x: --top-k has no effect with --heat 0");
  CHECK(error({{"top-k", 2}, {"heat", 0.5}}).empty());
  CHECK(error({{"fast", true}}) == "p: vyx-x: --fast has no effect without --heat");
  CHECK(error({{"fast", false}}).empty());
  CHECK(error({{"fast", true}, {"heat", 0}}).empty());
}

TEST_CASE("[ablation.driver_info] a list of options that is malformed is an error") {
  CHECK(contains(error_of([] { parse_driver_info("{}", "s"); }), "s: "));
  CHECK(contains(error_of([] { parse_driver_info(R"({"name": "x"})", "s"); }),
                 "found no list of options"));
  CHECK(contains(error_of([] {
                   parse_driver_info(R"({"name": "x", "options": [{"name": "a", "type": "y"}]})",
                                     "s");
                 }),
                 "\"y\""));
}

}  // namespace
}  // namespace vyx::ablation
