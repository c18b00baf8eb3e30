#include "apps/compare/splits.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "core/base/error.h"
#include "core/base/json_guard.h"
#include "core/base/random.h"
#include "core/io/digest.h"

namespace vyx::compare {

const std::vector<size_t>& Splits::of(Split split) const {
  return split == Split::extraction ? extraction : split == Split::selection ? selection : test;
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
