#include "apps/compare/splits.h"

#include <algorithm>
#include <set>

#include "tests/torch_support.h"

using namespace vyx::compare;
using vyx::test::contains;
using vyx::test::error_of;

namespace {

std::vector<std::string> numbered(size_t count) {
  std::vector<std::string> texts;
  for (size_t i = 0; i < count; ++i) texts.push_back("text" + std::to_string(i));
  return texts;
}

/// `members` items a group.
std::vector<size_t> grouped(size_t groups, size_t members) {
  std::vector<size_t> result;
  for (size_t m = 0; m < members; ++m)
    for (size_t g = 0; g < groups; ++g) result.push_back(g);
  return result;
}

}  // namespace

TEST_CASE("[compare.splits] no group is in two splits, and nothing is lost") {
  const auto groups = grouped(32, 4);
  const Splits splits = split_by_group(groups, numbered(32), {}, 7, "set");
  CHECK(splits.extraction.size() == 64);
  CHECK(splits.selection.size() == 32);
  CHECK(splits.test.size() == 32);
  CHECK(splits.duplicates.empty());
  std::set<size_t> items, seen_groups;
  for (const auto* part : {&splits.extraction, &splits.selection, &splits.test}) {
    std::set<size_t> own;
    for (const size_t item : *part) {
      CHECK(items.insert(item).second);
      own.insert(groups[item]);
    }
    for (const size_t group : own) CHECK(seen_groups.insert(group).second);
    CHECK(std::is_sorted(part->begin(), part->end()));
  }
  CHECK(items.size() == groups.size());
}

TEST_CASE("[compare.splits] a seed gives the same splits again, another one others") {
  const auto groups = grouped(40, 1);
  const auto test = [&](uint64_t seed) {
    return split_by_group(groups, numbered(40), {}, seed, "set").test;
  };
  CHECK(test(1) == test(1));
  CHECK(test(1) != test(2));
}

TEST_CASE("[compare.splits] near duplicates are left out") {
  auto texts = numbered(8);
  texts[5] = "Text2!";
  const Splits splits = split_by_group(grouped(8, 2), texts, {}, 0, "set");
  CHECK(splits.duplicates == std::vector<size_t>{5, 13});
  for (const auto* part : {&splits.extraction, &splits.selection, &splits.test})
    CHECK(std::count(part->begin(), part->end(), 5) == 0);
}

TEST_CASE("[compare.splits] each split gets a group, or it is an error") {
  const Splits splits = split_by_group(grouped(4, 1), numbered(4), {}, 0, "set");
  CHECK(splits.extraction.size() == 2);
  CHECK(splits.selection.size() == 1);
  CHECK(splits.test.size() == 1);
  CHECK(contains(error_of([] { split_by_group(grouped(3, 9), numbered(3), {}, 0, "few.jsonl"); }),
                 "few.jsonl: found 3 groups"));
  const Splits two =
      split_by_group(grouped(2, 1), numbered(2), {.extraction = 0, .selection = .5}, 0, "set");
  CHECK(two.extraction.empty());
  CHECK(two.selection.size() == 1);
  CHECK(two.test.size() == 1);
}

TEST_CASE("[compare.splits] a split's digest is of its items and their order") {
  const std::vector<vyx::steering::ContrastPair> pairs = {{"a", "b"}, {"c", "d"}};
  const std::vector<size_t> both = {0, 1}, first = {0};
  CHECK(digest_of(pairs, both).size() == 64);
  CHECK(digest_of(pairs, both) != digest_of(pairs, first));
}

TEST_CASE("[compare.splits] continuations of one prompt are a group") {
  const auto [groups, texts] = group_by_prompt(
      {{"How?", "well", "badly"}, {"Why?", "for joy", "for grief"}, {"How?", "so", "not so"}});
  CHECK(groups == std::vector<size_t>{0, 1, 0});
  CHECK(texts == std::vector<std::string>{"How? well badly", "Why? for joy for grief"});
}
