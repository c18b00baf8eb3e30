#include "tests/torch_support.h"

#include "steering/directions/methods.h"

#include <set>

using namespace vyx::steering;
using vyx::test::contains;
using vyx::test::error_of;

TEST_CASE("[steering.methods] each method is found by its name, and says what it is") {
  std::set<std::string_view> names;
  for (const Method& method : methods()) {
    CAPTURE(method.name);
    CHECK(names.insert(method.name).second);
    CHECK(&method_named(method.name) == &method);
    CHECK_FALSE(method.help.empty());
    CHECK(contains(method_help(), std::string(method.name) + ": " + std::string(method.help)));
  }
  CHECK(methods().front().name == "pca-center");
}

TEST_CASE("[steering.methods] a method that there is not is an error that lists them all") {
  CHECK_THROWS_AS(method_named("pca"), vyx::UsageError);
  CHECK(contains(error_of([] { method_named("pca"); }),
                 "unknown method \"pca\"; expected one of pca-center, pca-diff, mean, logistic"));
}
