#include "steering/directions/near_duplicates.h"

#include <random>

#include "tests/test_support.h"

using namespace vyx::steering;

namespace {

using Items = std::vector<std::vector<std::string>>;
using Places = std::vector<size_t>;

/// What groups_of_alike() says, by looking at every pair of items until nothing changes.
Places slowly_grouped(const Items& items) {
  Places groups(items.size());
  for (size_t i = 0; i < items.size(); ++i) groups[i] = i;
  const auto alike = [&](size_t i, size_t j) {
    for (const std::string& a : items[i])
      for (const std::string& b : items[j])
        if (nearly_equal(a, b)) return true;
    return false;
  };
  for (bool changed = true; changed;) {
    changed = false;
    for (size_t i = 0; i < items.size(); ++i)
      for (size_t j = 0; j < i; ++j) {
        if (groups[i] == groups[j] || !alike(i, j)) continue;
        groups[i] = groups[j] = std::min(groups[i], groups[j]);
        changed = true;
      }
  }
  std::vector<size_t> first, result;
  for (const size_t group : groups) {
    const auto known = std::find(first.begin(), first.end(), group);
    result.push_back(static_cast<size_t>(known - first.begin()));
    if (known == first.end()) first.push_back(group);
  }
  return result;
}

}  // namespace

TEST_CASE("[steering.near_duplicates] texts are alike whatever their case, order, punctuation") {
  CHECK(nearly_equal("I had a very good day at work", "At work, I had a very GOOD day!"));
  CHECK(nearly_equal("one two three four five", "one two three four five six"));
  CHECK(nearly_equal("one two three four", "one two three four five"));  // 4 of 5
  CHECK_FALSE(nearly_equal("one two three", "one two three four"));      // 3 of 4
  CHECK_FALSE(nearly_equal("Everyone says", "Everyone says that"));
  CHECK_FALSE(nearly_equal("", "a"));
  CHECK(nearly_equal("?!", "?!"));
  CHECK_FALSE(nearly_equal("?!", "!?"));  // no words: nothing says that they are alike
}

TEST_CASE("[steering.near_duplicates] what repeats an earlier or a known text is no difference") {
  const std::vector<std::string> texts = {"one two three four five", "Five four THREE two, one.",
                                          "six seven eight", "a known text", "nine"};
  CHECK(differing(texts) == Places{0, 2, 3, 4});
  const std::vector<std::string> known = {"A text, known!"};
  CHECK(differing(texts, known) == Places{0, 2, 4});
  CHECK(differing({}, known).empty());
}

TEST_CASE("[steering.near_duplicates] items are one group through any text, and through others") {
  CHECK(groups_of_alike(Items{{"a b"}, {"c"}, {"A, b"}, {"c"}, {"d"}}) == Places{0, 1, 0, 1, 2});
  CHECK(groups_of_alike(Items{{"p", "n"}, {"x", "y"}, {"n", "p"}, {"y", "z"}}) ==
        Places{0, 1, 0, 1});
  const Items chain = {{"1 2 3 4 5 6 7 8 9"}, {"3 4 5 6 7 8 9 10 11"}, {"2 3 4 5 6 7 8 9 10"}};
  CHECK_FALSE(nearly_equal(chain[0][0], chain[1][0]));
  CHECK(groups_of_alike(chain) == Places{0, 0, 0});
  CHECK(groups_of_alike(Items{}).empty());
}

TEST_CASE("[steering.near_duplicates] groups are those of comparing every text with every other") {
  std::mt19937 random(4);
  for (int world = 0; world < 40; ++world) {
    const unsigned words = 8 + random() % 24;
    Items items;
    for (int i = 0; i < 60; ++i) {
      auto& item = items.emplace_back();
      for (int side = 0; side < 2; ++side) {
        std::string text;
        for (unsigned w = random() % 9; w > 0; --w)
          text += "w" + std::to_string(random() % words) + " ";
        item.push_back(text);
      }
    }
    CHECK(groups_of_alike(items) == slowly_grouped(items));
  }
}

TEST_CASE("[steering.near_duplicates] what all texts share goes, in whole words") {
  using Texts = std::vector<std::string>;
  CHECK(without_shared({"Be happy. I said", "Be happy. It said"}) == Texts{"I", "It"});
  CHECK(without_shared({"I am glad", "I am grim"}) == Texts{"glad", "grim"});
  CHECK(without_shared({"one text"}) == Texts{"one text"});
  CHECK(without_shared({"a b", "a b"}) == Texts{"b", "b"});
  CHECK(without_shared({}).empty());
}
