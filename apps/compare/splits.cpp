#include "apps/compare/splits.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "core/base/error.h"
#include "core/base/json_guard.h"
#include "core/base/random.h"
#include "core/io/digest.h"

namespace vyx::compare {
namespace {

constexpr double kNearlyEqual = 0.8;  // of the words of both, in common (Jaccard)

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

double common_share(const std::set<std::string>& a, const std::set<std::string>& b) {
  size_t common = 0;
  for (const std::string& word : a) common += b.count(word);
  const size_t all = a.size() + b.size() - common;
  return all == 0 ? 0 : static_cast<double>(common) / static_cast<double>(all);
}

}  // namespace

const std::vector<size_t>& Splits::of(Split split) const {
  return split == Split::extraction ? extraction : split == Split::selection ? selection : test;
}

bool nearly_equal(std::string_view a, std::string_view b) {
  return a == b || common_share(words(a), words(b)) >= kNearlyEqual;
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
      return other.text == own.text || common_share(other.words, own.words) >= kNearlyEqual;
    });
    if (repeated) continue;
    kept.push_back(i);
    earlier.push_back(std::move(own));
  }
  return kept;
}

PromptGroups group_by_prompt(const std::vector<steering::ContinuationPair>& pairs) {
  PromptGroups result;
  std::map<std::string, size_t> known;
  for (const steering::ContinuationPair& pair : pairs) {
    const auto [place, added] = known.emplace(pair.prompt, result.texts.size());
    if (added) result.texts.push_back(pair.prompt + " " + pair.positive + " " + pair.negative);
    result.groups.push_back(place->second);
  }
  return result;
}

Splits split_by_group(std::span<const size_t> groups, std::span<const std::string> group_texts,
                      const SplitShares& shares, uint64_t seed, std::string_view source) {
  const std::vector<size_t> kept = differing(group_texts);  // groups
  const size_t needed = shares.extraction > 0 ? 4 : 2;
  if (kept.size() < needed)
    fail(
        "{}: found {} groups that differ, expected at least {} to split into extraction, selection "
        "and test; give more",
        source, kept.size(), needed);

  // Each split with a share gets at least one group.
  const auto count = static_cast<double>(kept.size());
  const auto portion = [&](double share) {
    return share > 0 ? std::max<size_t>(1, static_cast<size_t>(std::lround(share * count))) : 0;
  };
  const size_t extraction = portion(shares.extraction);
  const size_t selection = std::min(portion(shares.selection), kept.size() - extraction - 1);
  constexpr size_t kLeftOut = 3;
  std::vector<size_t> split_of(group_texts.size(), kLeftOut);
  const Permutation order(kept.size(), seed);
  for (size_t i = 0; i < kept.size(); ++i)
    split_of[kept[order(i)]] = i < extraction ? 0 : i < extraction + selection ? 1 : 2;

  Splits splits;
  std::vector<size_t>* const parts[] = {&splits.extraction, &splits.selection, &splits.test,
                                        &splits.duplicates};
  for (size_t item = 0; item < groups.size(); ++item)
    parts[split_of[groups[item]]]->push_back(item);
  return splits;
}

std::vector<std::string> group_texts(const steering::ContrastSet& set) {
  std::vector<std::string> texts;
  for (size_t i = 0; i < set.pairs.size(); ++i) {
    if (set.groups[i] < texts.size()) continue;
    texts.resize(set.groups[i] + 1);
    texts[set.groups[i]] = set.pairs[i].positive;
  }
  std::string_view shared = texts.empty() ? std::string_view() : texts.front();
  for (const std::string& text : texts) {
    const auto end = std::mismatch(shared.begin(), shared.end(), text.begin(), text.end()).first;
    shared = shared.substr(0, static_cast<size_t>(end - shared.begin()));
  }
  const size_t word = shared.find_last_of(" \n");  // words are kept whole
  const size_t cut = texts.size() < 2 || word == std::string_view::npos ? 0 : word + 1;
  for (std::string& text : texts) text.erase(0, cut);
  return texts;
}

std::string digest_of(const std::vector<steering::ContrastPair>& pairs,
                      std::span<const size_t> items) {
  std::string lines;
  for (const size_t i : items) lines += Json{pairs[i].positive, pairs[i].negative}.dump() + '\n';
  return sha256(lines);
}

std::string digest_of(const std::vector<steering::ContinuationPair>& pairs,
                      std::span<const size_t> items) {
  std::string lines;
  for (const size_t i : items)
    lines += Json{pairs[i].prompt, pairs[i].positive, pairs[i].negative}.dump() + '\n';
  return sha256(lines);
}

std::string digest_of(const std::vector<steering::ChoiceItem>& items) {
  std::string lines;
  for (const steering::ChoiceItem& item : items)
    lines += Json{item.question, item.choices, item.answer}.dump() + '\n';
  return sha256(lines);
}

}  // namespace vyx::compare
