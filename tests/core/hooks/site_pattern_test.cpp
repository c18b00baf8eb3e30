#include "core/hooks/site_pattern.h"

#include "tests/test_support.h"

namespace vyx {
namespace {

using test::contains;
using test::error_of;

bool matches(std::string_view pattern, std::string_view site) {
  return SitePattern(pattern).matches(Site::parse(site));
}

TEST_CASE("[core.site_pattern] a site without a port is an output") {
  CHECK(Site::parse("model.layers.14") == Site{"model.layers.14", Port::output});
  CHECK(Site::parse("model.layers.14:input") == Site{"model.layers.14", Port::input});
  CHECK(Site::parse(":output") == Site{"", Port::output});
  CHECK(Site::parse("a.b:input").name() == "a.b:input");
  CHECK(Site::parse("a.b").name() == "a.b:output");
}

TEST_CASE("[core.site_pattern] an unknown port is an error that names the two there are") {
  CHECK(contains(error_of([] { Site::parse("a:grad"); }), "'grad', expected 'input' or 'output'"));
  CHECK(contains(error_of([] { SitePattern("a:out"); }), "'out'"));
}

TEST_CASE("[core.site_pattern] plain paths match themselves and their port alone") {
  CHECK(matches("model.layers.1", "model.layers.1"));
  CHECK_FALSE(matches("model.layers.1", "model.layers.1:input"));
  CHECK_FALSE(matches("model.layers.1", "model.layers.10"));
  CHECK_FALSE(matches("layers.1", "model.layers.1"));
  CHECK(matches(":output", ""));
  CHECK(matches(":input", ":input"));
  CHECK_FALSE(matches(":output", "model"));
}

TEST_CASE("[core.site_pattern] * stays within a segment, ? is one character") {
  CHECK(matches("layers.*.mlp", "layers.3.mlp"));
  CHECK_FALSE(matches("layers.*.mlp", "layers.3.x.mlp"));
  CHECK(matches("layers.*", "layers.3"));
  CHECK_FALSE(matches("layers.*", "layers.3.mlp"));
  CHECK(matches("a.*_proj", "a.q_proj"));
  CHECK_FALSE(matches("a.*_proj", "a.q_projx"));
  CHECK(matches("layers.?", "layers.7"));
  CHECK_FALSE(matches("layers.?", "layers.17"));
  CHECK(matches("a*b*c", "aXbYbc"));
}

TEST_CASE("[core.site_pattern] a leading *. and ** stand for any number of segments") {
  for (const char* site : {"mlp", "a.mlp", "a.b.mlp"}) {
    CHECK(matches("*.mlp", site));
    CHECK(matches("**.mlp", site));
  }
  CHECK_FALSE(matches("*.mlp", "a.xmlp"));
  CHECK(matches("a.**.d", "a.d"));
  CHECK(matches("a.**.d", "a.b.c.d"));
  CHECK_FALSE(matches("a.**.d", "a.b.c"));
  CHECK(matches("**", ""));
  CHECK(matches("**", "a.b"));
  CHECK(matches("*.mlp:input", "a.mlp:input"));
  CHECK(matches("*", "a"));
  CHECK_FALSE(matches("*", "a.b"));
}

TEST_CASE("[core.site_pattern] braces are alternatives and ranges, and nest") {
  for (int i = 8; i <= 20; ++i) CHECK(matches("layers.{8..20}", "layers." + std::to_string(i)));
  CHECK_FALSE(matches("layers.{8..20}", "layers.7"));
  CHECK_FALSE(matches("layers.{8..20}", "layers.21"));
  CHECK(matches("{q,k,v}_proj", "k_proj"));
  CHECK_FALSE(matches("{q,k,v}_proj", "o_proj"));
  CHECK(matches("l.{1..2,7}", "l.7"));
  CHECK(matches("l.{a,b{1..3}}.{x,y}", "l.b2.y"));
}

TEST_CASE("[core.site_pattern] malformed braces and ranges are errors") {
  CHECK(contains(error_of([] { SitePattern("a.{1..2"); }), "'{' without '}'"));
  CHECK(contains(error_of([] { SitePattern("a.1}"); }), "'}' without '{'"));
  CHECK(contains(error_of([] { SitePattern("a.{20..8}"); }), "write {8..20}"));
  CHECK(contains(error_of([] { SitePattern("a.{0..99999999999}"); }), "more than 4096"));
  CHECK(contains(error_of([] { SitePattern("{0..99}{0..99}"); }), "more than 4096"));
}

TEST_CASE("[core.site_pattern] an empty pattern, or an empty place in a list, is an error") {
  CHECK(contains(error_of([] { SitePattern(""); }), "found an empty pattern"));
  for (const char* pattern : {"l.{a,}", "l.{,a}x", "l.{}", "l.{a,,b}", "l.{a,{b,}}"})
    CHECK(contains(error_of([&] { SitePattern{pattern}; }), "found nothing between two commas"));
}

TEST_CASE("[core.site_pattern] each path that the braces stand for must choose a site") {
  std::vector<Site> sites;
  for (const char* name : {"l.0:input", "l.0", "l.1", "l.1.up", "head"})
    sites.push_back(Site::parse(name));
  const auto names = [&](const char* pattern) {
    std::vector<std::string> chosen;
    for (const Site& site : SitePattern(pattern).choose(sites, "m.pt"))
      chosen.push_back(site.name());
    return chosen;
  };
  using Names = std::vector<std::string>;
  CHECK(names("{head,l.{1,0}}") == Names{"l.0:output", "l.1:output", "head:output"});
  CHECK(names("l.*:input") == Names{"l.0:input"});
  CHECK(error_of([&] { names("l.{0..3}"); }) ==
        "m.pt: no site matches 'l.2:output', one of 4 that 'l.{0..3}' stands for; the nearest are "
        "l.0:output, l.1:output, l.0:input");
  CHECK(contains(error_of([&] { names("{l.*,x.*}"); }), "no site matches 'x.*:output', one of 2"));
  CHECK(contains(error_of([&] { names("l.{2..3}"); }), "m.pt: no site matches 'l.{2..3}'; the"));
}

TEST_CASE("[core.site_pattern] many stars cost no more than the product of the lengths") {
  std::string pattern, path;
  for (int i = 0; i < 200; ++i) pattern += "**.a*a*.", path += "aaaaaaaaaa.";
  CHECK_FALSE(matches(pattern + "b", path + "c"));
}

}  // namespace
}  // namespace vyx
