#include "tests/torch_support.h"

#include <numeric>

#include "models/language_model/batch.h"

using namespace vyx;
using namespace vyx::models;
using Rows = std::vector<std::vector<TokenId>>;

TEST_CASE("[models.batch] rows of one length have no mask") {
  const Batch batch = make_batch(Rows{{1, 2}, {3, 4}}, Padding::left, 9);
  CHECK_FALSE(batch.mask.defined());
  CHECK(at::equal(batch.ids, at::tensor({1, 2, 3, 4}, at::kLong).view({2, 2})));
  CHECK(at::equal(last_positions(batch), at::tensor({1, 1}, at::kLong)));
}

TEST_CASE("[models.batch] padding stands on the side that was asked for, and the mask knows it") {
  const Rows rows{{1}, {2, 3, 4}};
  const Batch left = make_batch(rows, Padding::left, 9);
  CHECK(at::equal(left.ids, at::tensor({9, 9, 1, 2, 3, 4}, at::kLong).view({2, 3})));
  CHECK(at::equal(left.mask, at::tensor({0, 0, 1, 1, 1, 1}).view({2, 3}).to(at::kBool)));
  CHECK(at::equal(last_positions(left), at::tensor({2, 2}, at::kLong)));

  const Batch right = make_batch(rows, Padding::right, 9);
  CHECK(at::equal(right.ids, at::tensor({1, 9, 9, 2, 3, 4}, at::kLong).view({2, 3})));
  CHECK(at::equal(last_positions(right), at::tensor({0, 2}, at::kLong)));
}

TEST_CASE("[models.batch] no rows and empty rows are refused") {
  CHECK(
      test::contains(test::error_of([] { make_batch(Rows{}, Padding::left, 0); }), "without rows"));
  CHECK(test::contains(test::error_of([] {
                         make_batch(Rows{{1}, {}}, Padding::left, 0);
                       }),
                       "prompt 2 has no token"));
}

TEST_CASE(
    "[models.batch] prompts that begin alike are grouped, the rest are one group without prefix") {
  Rows prompts;
  const auto add = [&](TokenId first, int64_t shared, TokenId own) {
    auto& row = prompts.emplace_back();
    for (int64_t i = 0; i < shared; ++i) row.push_back(first + i);
    row.push_back(own);
  };
  for (TokenId i = 0; i < 20; ++i) {
    add(100, 20, 1000 + i);
    add(200, 30, 2000 + i);
  }
  add(300, 2, 3000);
  const auto groups = group_by_prefix(prompts);
  REQUIRE(groups.size() == 3);
  std::vector<int> seen(prompts.size());
  for (const auto& group : groups) {
    for (const size_t member : group.members) ++seen[member];
    if (group.members.size() == 1) {
      CHECK(group.prefix_length == 0);
      CHECK(group.members[0] == 40);
    } else {
      CHECK(group.members.size() == 20);
      CHECK(group.prefix_length == (group.members[0] % 2 == 0 ? 20 : 30));
    }
  }
  CHECK(seen == std::vector<int>(prompts.size(), 1));
}

TEST_CASE("[models.batch] a prefix leaves every member a token of its own") {
  std::vector<TokenId> row(40);
  std::iota(row.begin(), row.end(), 0);
  const Rows equal(10, row);
  auto groups = group_by_prefix(equal);
  REQUIRE(groups.size() == 1);
  CHECK(groups[0].prefix_length == 39);

  Rows nested(10, row);
  for (size_t i = 0; i < 5; ++i) nested[i].resize(35);
  groups = group_by_prefix(nested);
  REQUIRE(groups.size() == 1);  // cheaper than two prefixes, and than one for the longer half
  CHECK(groups[0].prefix_length == 34);
}

TEST_CASE("[models.batch] a prefix that saves nothing is not shared") {
  Rows prompts{{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 11}};
  const auto groups = group_by_prefix(prompts);
  REQUIRE(groups.size() == 1);
  CHECK(groups[0].prefix_length == 0);
  CHECK(groups[0].members == std::vector<size_t>{0, 1});
}

TEST_CASE(
    "[models.batch] batches by length hold every row once, within the limit, with little padding") {
  std::vector<int64_t> lengths;
  for (int64_t i = 0; i < 300; ++i) lengths.push_back(1 + (i * 37) % 90);
  std::vector<int> seen(lengths.size());
  int64_t padded = 0, real = 0;
  for (const auto& batch : batches_by_length(lengths, 1000)) {
    int64_t longest = 0;
    for (const size_t row : batch) {
      ++seen[row];
      real += lengths[row];
      longest = std::max(longest, lengths[row]);
    }
    CHECK(longest * static_cast<int64_t>(batch.size()) <= 1000);
    padded += longest * static_cast<int64_t>(batch.size());
  }
  CHECK(seen == std::vector<int>(lengths.size(), 1));
  CHECK(static_cast<double>(padded) < 1.08 * static_cast<double>(real));
  CHECK(batches_by_length(std::vector<int64_t>{5000}, 1000).size() == 1);
}
