#include "apps/options/numbers.h"

#include "tests/torch_support.h"

namespace vyx::apps {
namespace {

using test::contains;
using test::error_of;

TEST_CASE("[options.numbers] a name and its number part at the last =") {
  const NamedNumber named = parse_named_number("a=b.gguf=-1.5", 1);
  CHECK((named.name == "a=b.gguf" && named.number == -1.5));
  CHECK(parse_named_number("a.gguf", 7).number == 7);
  CHECK(contains(error_of([] { parse_named_number("a=", 1); }), "'' is not a finite number"));
  CHECK(contains(error_of([] { parse_named_number("a=1x", 1); }), "'1x' is not a finite number"));
  CHECK(contains(error_of([] { parse_named_number("a=inf", 1); }), "'inf' is not"));
}

TEST_CASE("[options.numbers] a list of numbers, and the part of it that is none") {
  CHECK(parse_numbers("--kl", "0.1,0.3,1") == std::vector<double>{0.1, 0.3, 1});
  CHECK(contains(error_of([] { parse_numbers("--kl", "0.1,x"); }),
                 "--kl 0.1,x: 'x' is not a finite number"));
  CHECK(contains(error_of([] { parse_numbers("--kl", "1,"); }), "'' is not a finite number"));
}

}  // namespace
}  // namespace vyx::apps
