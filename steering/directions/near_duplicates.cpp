#include "steering/directions/near_duplicates.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <numeric>
#include <set>
#include <utility>

namespace vyx::steering {
namespace {

// Texts are nearly equal that have kCommon of kOf of the words of both in common (Jaccard).
constexpr size_t kCommon = 4, kOf = 5;

std::set<std::string> words(std::string_view text) {
  std::set<std::string> result;
  std::string word;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x80 || std::isalnum(byte)) {  // bytes of other alphabets are letters here
      word += static_cast<char>(byte < 0x80 ? std::tolower(byte) : byte);
    } else if (!word.empty()) {
      result.insert(std::move(word));
      word.clear();
    }
  }
  if (!word.empty()) result.insert(std::move(word));
  return result;
}

/// Of two rising sets: of words, or of their numbers.
template <class Set>
bool mostly_common(const Set& a, const Set& b) {
  size_t common = 0;
  for (auto i = a.begin(), j = b.begin(); i != a.end() && j != b.end();) {
    common += *i == *j;
    const bool first = *i <= *j, second = *j <= *i;
    if (first) ++i;
    if (second) ++j;
  }
  const size_t all = a.size() + b.size() - common;
  return all > 0 && common * kOf >= all * kCommon;
}

/// Each text's words as numbers, rising; the rarest words have the smallest.
std::vector<std::vector<size_t>> numbered(const std::vector<std::set<std::string>>& texts) {
  std::map<std::string_view, size_t> uses;
  for (const auto& text : texts)
    for (const std::string& word : text) ++uses[word];
  std::vector<std::pair<size_t, std::string_view>> order;
  for (const auto& [word, count] : uses) order.emplace_back(count, word);
  std::sort(order.begin(), order.end());
  for (size_t i = 0; i < order.size(); ++i) uses[order[i].second] = i;
  std::vector<std::vector<size_t>> result;
  for (const auto& text : texts) {
    auto& numbers = result.emplace_back();
    for (const std::string& word : text) numbers.push_back(uses[word]);
    std::sort(numbers.begin(), numbers.end());
  }
  return result;
}

/// Sets that are joined two by two.
class Joined {
 public:
  explicit Joined(size_t count) : next_(count) { std::iota(next_.begin(), next_.end(), 0); }
  size_t first(size_t i) {
    while (next_[i] != i) i = next_[i] = next_[next_[i]];
    return i;
  }
  void join(size_t a, size_t b) {
    next_[std::max(first(a), first(b))] = std::min(first(a), first(b));
  }

 private:
  std::vector<size_t> next_;  // towards the first of the set
};

/// How many bytes of the beginning all texts share, in whole words.
size_t shared_beginning(const std::vector<std::string>& texts) {
  std::string_view shared = texts.front();
  for (const std::string& text : texts) {
    const auto end = std::mismatch(shared.begin(), shared.end(), text.begin(), text.end()).first;
    shared = shared.substr(0, static_cast<size_t>(end - shared.begin()));
  }
  const size_t word = shared.find_last_of(" \n");
  return word == std::string_view::npos ? 0 : word + 1;
}

}  // namespace

bool nearly_equal(std::string_view a, std::string_view b) {
  return a == b || mostly_common(words(a), words(b));
}

std::vector<size_t> differing(std::span<const std::string> texts,
                              std::span<const std::string> known) {
  struct Text {
    std::string_view text;
    std::set<std::string> words;
  };
  std::vector<Text> earlier;
  for (const std::string& text : known) earlier.push_back({text, words(text)});
  std::vector<size_t> kept;
  for (size_t i = 0; i < texts.size(); ++i) {
    Text own{texts[i], words(texts[i])};
    const bool repeated = std::any_of(earlier.begin(), earlier.end(), [&](const Text& other) {
      return other.text == own.text || mostly_common(other.words, own.words);
    });
    if (repeated) continue;
    kept.push_back(i);
    earlier.push_back(std::move(own));
  }
  return kept;
}

std::vector<size_t> groups_of_alike(std::span<const std::vector<std::string>> items) {
  Joined joined(items.size());
  std::map<std::string_view, size_t> known;  // text → the first item that has it
  std::vector<std::set<std::string>> texts;
  std::vector<size_t> item_of;  // [texts]
  for (size_t i = 0; i < items.size(); ++i) {
    for (const std::string& text : items[i]) {
      const auto [same, added] = known.emplace(text, i);
      joined.join(i, same->second);
      if (!added) continue;
      texts.push_back(words(text));
      item_of.push_back(i);
    }
  }
  // Two sets of which nearly all is common have one of their rarest words in common: only those are
  // looked up (prefix filtering, Chaudhuri et al. 2006).
  const auto numbers = numbered(texts);
  std::map<size_t, std::vector<size_t>> users;  // word → texts among whose rarest it is
  for (size_t i = 0; i < numbers.size(); ++i) {
    const size_t size = numbers[i].size(), needed = (size * kCommon + kOf - 1) / kOf;
    for (size_t w = 0; size > 0 && w < size - needed + 1; ++w) {
      std::vector<size_t>& others = users[numbers[i][w]];
      for (const size_t other : others)
        if (joined.first(item_of[i]) != joined.first(item_of[other]) &&
            mostly_common(numbers[i], numbers[other]))
          joined.join(item_of[i], item_of[other]);
      others.push_back(i);
    }
  }
  std::vector<size_t> groups;
  std::map<size_t, size_t> numbers_of;  // first item of a group → its number
  for (size_t i = 0; i < items.size(); ++i)
    groups.push_back(numbers_of.emplace(joined.first(i), numbers_of.size()).first->second);
  return groups;
}

std::vector<std::string> without_shared(std::vector<std::string> texts) {
  if (texts.size() < 2) return texts;
  for (const bool end : {false, true}) {
    if (end)
      for (std::string& text : texts) std::reverse(text.begin(), text.end());
    const size_t cut = shared_beginning(texts);
    for (std::string& text : texts) {
      text.erase(0, cut);
      if (end) std::reverse(text.begin(), text.end());
    }
  }
  return texts;
}

}  // namespace vyx::steering
