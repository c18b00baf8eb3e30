#include "apps/options/option_table.h"

#include <boost/program_options.hpp>

#include <optional>
#include <string>
#include <vector>

#include "tests/torch_support.h"

namespace vyx::apps {
namespace {

struct Fields {
  std::string out, name = "topk";
  int64_t k = 32;
  double share = 0.3;
  std::optional<uint64_t> tokens;
  std::vector<std::string> text, vectors;
  std::vector<double> coefficients = {2, 4};
  bool chat = false, taken = false;
};

OptionTable table_of(Fields& fields) {
  OptionTable option;
  option("out,o", fields.out, "FILE", "what is written", kRequired);
  option("name", fields.name, "NAME", "");
  option("k", fields.k, "N", "");
  option("share", fields.share, "X", "");
  option("tokens", fields.tokens, "N", "");
  option("text", fields.text, "FILE…", "");
  option("vector", fields.vectors, "FILE", "");
  option("coefficients", fields.coefficients, "C…", "");
  option("chat", fields.chat, "");
  option.on(
      "take", [&fields] { fields.taken = true; }, "");
  return option;
}

void parse(Fields& fields, const std::vector<std::string>& arguments) {
  const OptionTable option = table_of(fields);
  po::variables_map values;
  po::store(po::command_line_parser(arguments).options(option.parser()).positional({}).run(),
            values);
  po::notify(values);
}

TEST_CASE("[options.option_table] a field keeps its default until the option is given") {
  Fields fields;
  parse(fields, {"--out=x"});
  CHECK(fields.out == "x");
  CHECK((fields.name == "topk" && fields.k == 32 && fields.share == 0.3));
  CHECK((!fields.tokens && fields.text.empty() && !fields.chat && !fields.taken));
  CHECK(fields.coefficients == std::vector<double>{2, 4});
  parse(fields, {"-o", "y", "--name=relu", "--k=4", "--share=1e-3", "--tokens=5", "--chat",
                 "--take", "--coefficients", "1", "3"});
  CHECK((fields.out == "y" && fields.name == "relu" && fields.k == 4 && fields.share == 1e-3));
  CHECK((fields.tokens == 5 && fields.chat && fields.taken));
  CHECK(fields.coefficients == std::vector<double>{1, 3});
}

TEST_CASE("[options.option_table] a list whose unit ends in … takes several values in a row") {
  Fields fields;
  parse(fields, {"--out=x", "--text", "a", "b", "--vector", "v", "--vector", "w"});
  CHECK(fields.text == std::vector<std::string>{"a", "b"});
  CHECK(fields.vectors == std::vector<std::string>{"v", "w"});
  CHECK_THROWS_AS(parse(fields, {"--out=x", "--vector", "v", "w"}), po::error);
}

TEST_CASE("[options.option_table] what is required, unknown or of another type is refused") {
  Fields fields;
  CHECK_THROWS_AS(parse(fields, {}), po::required_option);
  CHECK_THROWS_AS(parse(fields, {"--out=x", "--outs=y"}), po::unknown_option);
  CHECK_THROWS_AS(parse(fields, {"--out=x", "--k=many"}), po::validation_error);
}

TEST_CASE("[options.option_table] rows say type, default as typed, and how often") {
  Fields fields;
  const std::vector<OptionRow> rows = table_of(fields).rows();
  const auto row = [&](const std::string& name) {
    for (const OptionRow& known : rows)
      if (known.name == name) return known;
    return OptionRow{};
  };
  CHECK((row("out").required && row("out").letter == 'o' && !row("out").standard));
  CHECK((row("share").standard == "0.3" && row("share").type == "number"));
  CHECK((row("k").standard == "32" && row("k").type == "integer" && !row("k").many));
  CHECK((!row("tokens").standard && row("tokens").type == "integer"));
  CHECK((row("coefficients").many && row("coefficients").type == "number"));
  CHECK((row("text").many && row("text").type == "text"));
  CHECK((row("chat").type == "switch" && row("chat").unit.empty()));
}

}  // namespace
}  // namespace vyx::apps
