#include "tests/torch_support.h"

#include "steering/directions/pair_groups.h"

using namespace vyx::steering;
using vyx::test::contains;
using Numbers = std::vector<int64_t>;

namespace {

ContrastSet set_of(std::vector<ContrastPair> pairs) {
  ContrastSet set{.source = "set.jsonl", .pairs = std::move(pairs)};
  for (size_t i = 0; i < set.pairs.size(); ++i) set.groups.push_back(i);
  return set;
}

/// Two personas and a copy of the first, three beginnings of which two are alike.
ContrastSet crossed() {
  ContrastSet set{.source = "template.json"};
  set.persona_pairs = {{"glad", "sad"}, {"merry", "gloomy"}, {"Glad", "sad"}};
  const char* beginnings[] = {"I", "It was", "i!"};
  for (size_t persona = 0; persona < 3; ++persona) {
    for (size_t beginning = 0; beginning < 3; ++beginning) {
      const auto& [positive, negative] = set.persona_pairs[persona];
      set.pairs.push_back({"Be " + positive + ". " + beginnings[beginning],
                           "Be " + negative + ". " + beginnings[beginning]});
      set.groups.push_back(beginning);
      set.personas.push_back(persona);
    }
  }
  return set;
}

}  // namespace

TEST_CASE("[steering.pair_groups] pairs of a file are alike by either side, mirrored ones too") {
  const auto groups = [](std::vector<ContrastPair> pairs) {
    return pair_groups(set_of(std::move(pairs))).groups;
  };
  CHECK(groups({{"I am red", "I am old"}, {"I am big", "I am new"}}) == Numbers{0, 1});
  CHECK(groups({{"red", "old"}, {"big", "new"}, {"red", "old"}}) == Numbers{0, 1, 0});
  CHECK(groups({{"red", "old"}, {"big", "new"}, {"red!", "ripe"}}) == Numbers{0, 1, 0});
  CHECK(groups({{"red", "old"}, {"big", "new"}, {"old", "red"}}) == Numbers{0, 1, 0});
  CHECK(pair_groups(set_of({{"a", "b"}, {"c", "d"}})).personas == Numbers{0, 0});
}

TEST_CASE("[steering.pair_groups] a template's pairs have a beginning and a persona") {
  const PairGroups common = pair_groups(crossed());
  CHECK(common.groups == Numbers{0, 1, 0, 0, 1, 0, 0, 1, 0});
  CHECK(common.personas == Numbers{0, 0, 0, 1, 1, 1, 0, 0, 0});
}

TEST_CASE("[steering.pair_groups] groups are told apart by what they do not share") {
  ContrastSet set;
  set.pairs = {{"Be happy. I", "Be sad. I"},
               {"Be happy. It was", "Be sad. It was"},
               {"Be glad. I", "Be low. I"}};
  set.groups = {0, 1, 0};
  CHECK(group_texts(set) == std::vector<std::string>{"I", "It was"});
}

TEST_CASE("[steering.pair_groups] copies and mirror images are counted") {
  CHECK(oddities_of(set_of({{"a", "b"}, {"c", "d"}})).empty());
  const auto copies = oddities_of(set_of({{"a", "b"}, {"a", "b"}, {"c", "d"}, {"a", "b"}}));
  REQUIRE(copies.size() == 1);
  CHECK(contains(copies[0], "set.jsonl: 2 of 4 pairs repeat an earlier one"));
  const auto mirrored = oddities_of(set_of({{"a", "b"}, {"b", "a"}, {"c", "d"}}));
  REQUIRE(mirrored.size() == 1);
  CHECK(contains(mirrored[0], "1 of 3 pairs are an earlier one with its sides swapped"));
  CHECK(contains(mirrored[0], "no sign can be known"));
}
