#include "apps/options/help.h"

#include <sstream>

#include "core/base/display_width.h"
#include "tests/torch_support.h"

namespace vyx::apps {
namespace {

using test::contains;

struct Help {
  double share = 0.3;
  std::string out;
  std::vector<double> values;
  OptionTable option;
  Program program{"vyx-x", "--out FILE", "Does a thing.", "  vyx-x --out a", {}};

  Help() {
    option("share", share, "X",
           "of λ, in nats per token, which is −log p of a token, and so on, "
           "until this text is longer than a line may be");
    option("values,v", values, "C…", "one");
    option("out,o", out, "FILE", "two", kRequired);
    program.results = {{"", {{"rows", "one per value", "value, kl?"}, {"seconds?", "", ""}}}};
  }
  std::string text() const { return help_text(program, {{"options", option.rows()}}); }
  Json json() const { return help_json(program, {{"options", option.rows()}}); }
};

/// The column in which `part` stands in the line that holds it.
size_t column_of(const std::string& text, const std::string& part) {
  const size_t at = text.find(part), line = text.rfind('\n', at) + 1;
  REQUIRE(at != std::string::npos);
  return display_width(text.substr(line, at - line));
}

TEST_CASE("[options.help] columns line up by what a terminal shows, within 100 of them") {
  const std::string text = Help().text();
  const size_t column = column_of(text, "of λ");
  CHECK(column_of(text, "one") == column);  // after "C…"
  CHECK(column_of(text, "two (required)") == column);
  std::istringstream lines(text);
  size_t longest = 0;
  for (std::string line; std::getline(lines, line);)
    longest = std::max(longest, display_width(line));
  CHECK((longest > 90 && longest <= 100));
}

TEST_CASE("[options.help] numbers are shown as typed, lists of keys with what they hold") {
  const std::string text = Help().text();
  CHECK(contains(text, "(default: 0.3)"));
  CHECK(contains(text, "  -v, --values C…"));
  CHECK(contains(text, "  rows      one per value: value, kl?\n"));
  CHECK(contains(text, "usage: vyx-x --out FILE\n"));
}

TEST_CASE("[options.help] an option says when it has an effect") {
  Help help;
  bool fast = false;
  help.option("fast", fast, "three").needs("values", "out").unless("share", "0");
  CHECK(contains(help.text(), "three (only with --values or --out) (not with --share 0)"));
  const Json row = help.json()["options"][3];
  CHECK(row["effect"][0]["kind"] == "needs");
  CHECK(row["effect"][1] == Json{{"kind", "unless"}, {"options", {"share"}}, {"values", {"0"}}});
}

TEST_CASE("[options.help] as JSON it lists options and keys") {
  const Json json = Help().json();
  CHECK(json["options"][0]["default"] == "0.3");
  CHECK(json["options"][1] == Json{{"name", "values"},
                                   {"type", "number"},
                                   {"many", true},
                                   {"required", false},
                                   {"help", "one"},
                                   {"value", "C…"}});
  CHECK(json["version"] == kResultVersion);
  CHECK(json["results"][0]["keys"][0] ==
        Json{{"name", "rows"}, {"help", "one per value"}, {"members", "value, kl?"}});
}

}  // namespace
}  // namespace vyx::apps
