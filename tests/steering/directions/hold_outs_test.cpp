#include "tests/torch_support.h"

#include <cmath>

#include "steering/directions/direction.h"
#include "tests/random_tensors.h"

using namespace vyx::steering;
using vyx::test::normal_doubles;

namespace {

at::Tensor numbers(std::vector<int64_t> values) {
  return at::tensor(values, at::kLong);
}

std::vector<int64_t> chosen(const at::Tensor& mask) {  // [pairs] bool → places
  const at::Tensor places = mask.nonzero().flatten().contiguous();
  return {places.const_data_ptr<int64_t>(), places.const_data_ptr<int64_t>() + places.numel()};
}

/// Pairs without activations, for what hold_outs() looks at.
ContrastActivations pairs_of(int64_t count, const at::Tensor& groups = {},
                             const at::Tensor& personas = {}) {
  return {at::zeros({count, 1}), at::zeros({count, 1}), groups, personas};
}

DirectionStatistics statistics_of(const ContrastActivations& pairs, std::string_view method) {
  return find_direction({pairs}, method_named(method), "site").statistics;
}

}  // namespace

TEST_CASE("[steering.hold_outs] every fifth pair, of ten or more") {
  CHECK(hold_outs(pairs_of(9)).empty());
  const auto splits = hold_outs(pairs_of(11));
  REQUIRE(splits.size() == 1);
  CHECK(chosen(splits[0].judged) == std::vector<int64_t>{4, 9});
  CHECK(chosen(splits[0].fitted) == std::vector<int64_t>{0, 1, 2, 3, 5, 6, 7, 8, 10});
}

TEST_CASE(
    "[steering.hold_outs] a group is held out as a whole, and groups are counted, not pairs") {
  // Groups of one, two, three, … pairs, the fifth of which appears first as 40.
  const at::Tensor groups =
      numbers({7, 3, 3, 1, 1, 1, 9, 40, 40, 2, 5, 6, 8, 40, 10, 10});  // the tenth is 10
  const auto splits = hold_outs(pairs_of(16, groups));
  REQUIRE(splits.size() == 1);
  CHECK(chosen(splits[0].judged) == std::vector<int64_t>{7, 8, 13, 14, 15});
  CHECK(splits[0].fitted.logical_xor(splits[0].judged).all().item<bool>());
  CHECK(hold_outs(pairs_of(30, at::arange(30).remainder(9))).empty());
}

TEST_CASE("[steering.hold_outs] a persona is judged on beginnings that its fit has not seen") {
  // Three personas by six beginnings.
  const at::Tensor groups = at::arange(18).remainder(6), personas = at::arange(18) / 6;
  const auto splits = hold_outs(pairs_of(18, groups, personas.floor().to(at::kLong)));
  REQUIRE(splits.size() == 3);
  for (int64_t persona = 0; persona < 3; ++persona) {
    const auto& [fitted, judged] = splits[static_cast<size_t>(persona)];
    CHECK(chosen(judged) == std::vector<int64_t>{6 * persona + 4});
    const std::vector<int64_t> places = chosen(fitted);
    CHECK(places.size() == 10);  // two personas by five beginnings
    for (const int64_t place : places) CHECK((place / 6 != persona && place % 6 != 4));
  }
  const auto one_beginning = hold_outs(pairs_of(3, numbers({0, 0, 0}), numbers({0, 1, 2})));
  REQUIRE(one_beginning.size() == 3);
  CHECK(chosen(one_beginning[1].fitted) == std::vector<int64_t>{0, 2});
}

TEST_CASE("[steering.hold_outs] copies of the pairs change nothing") {
  for (const char* method : {"mean", "pca-center"}) {
    CAPTURE(method);
    double total = 0, total_torn = 0;
    for (uint64_t seed = 0; seed < 30; ++seed) {
      const at::Tensor p = normal_doubles({20, 48}, 2 * seed),
                       n = normal_doubles({20, 48}, 2 * seed + 1);
      const at::Tensor copies = at::arange(20).repeat_interleave(5);  // [100]
      const DirectionStatistics once = statistics_of({p, n}, method),
                                five = statistics_of({p.index({copies}), n.index({copies}), copies},
                                                     method),
                                torn =
                                    statistics_of({p.index({copies}), n.index({copies})}, method);
      CHECK((once.held_out == 4 && five.held_out == 4 && torn.held_out == 20));
      CHECK(five.held_out_accuracy == once.held_out_accuracy);
      total_torn += torn.held_out_accuracy / 30;
      total += five.held_out_accuracy / 30;
    }
    CHECK(std::fabs(total - 0.5) < 0.15);  // of 30 × 4 coins: σ = .046
    CHECK(total_torn > total + 0.05);      // with copies on both sides of the split
  }
}

TEST_CASE("[steering.hold_outs] personas without a concept are .50, and one is found where it is") {
  const at::Tensor personas = at::arange(4).repeat_interleave(25),  // [100]
      groups = at::arange(25).repeat({4});
  double noise = 0, torn = 0, concept_found = 0;
  constexpr int kSeeds = 60;
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    const at::Tensor own = normal_doubles({4, 48}, 100 + seed).index({personas}),  // [100, 48]
        rest = 0.3 * normal_doubles({100, 48}, 300 + seed);
    const ContrastActivations pairs{own + rest, at::zeros({100, 48}, at::kDouble), groups,
                                    personas};
    const DirectionStatistics judged = statistics_of(pairs, "mean");
    CHECK(judged.held_out == 4);
    noise += judged.held_out_accuracy / kSeeds;
    torn += statistics_of({pairs.positive, pairs.negative}, "mean").held_out_accuracy / kSeeds;
    concept_found += statistics_of({pairs.positive + 1, pairs.negative, groups, personas}, "mean")
                         .held_out_accuracy /
                     kSeeds;
  }
  CHECK(std::fabs(noise - 0.5) < 0.13);  // of 60 × 4 coins: σ = .032
  CHECK(torn > 0.95);                    // with personas on both sides of the split
  CHECK(concept_found > 0.98);
}

TEST_CASE("[steering.hold_outs] what cannot be known is not a number, and is a doubt") {
  const at::Tensor p = normal_doubles({3, 6}, 1) + 4, n = normal_doubles({3, 6}, 2);
  const DirectionStatistics one =
      statistics_of({p.narrow(0, 0, 1), n.narrow(0, 0, 1)}, "pca-center");
  CHECK((std::isnan(one.eigengap) && std::isnan(one.held_out_accuracy) && one.held_out == 0));
  CHECK(std::isnan(statistics_of({p.narrow(0, 0, 2), n.narrow(0, 0, 2)}, "pca-diff").eigengap));
  CHECK_FALSE(std::isnan(statistics_of({p.narrow(0, 0, 2), n.narrow(0, 0, 2)}, "mean").eigengap));

  const auto doubts = [](DirectionStatistics statistics) { return doubts_of(statistics); };
  const DirectionStatistics sound{
      .eigenvalues = {4, 1}, .eigengap = .75, .sign_vote_margin = .5, .held_out_accuracy = .5};
  CHECK(doubts(sound).empty());
  CHECK(doubts({}).empty());  // of a foreign file nothing is known
  DirectionStatistics guess = sound, against = sound, twofold = sound, unjudged = sound;
  guess.sign_vote_margin = 0;
  against.sign_vote_margin = -.1;
  twofold.eigengap = .01;
  unjudged.held_out_accuracy = std::nan("");
  CHECK(doubts(guess) == std::vector<std::string>{"sign is a guess"});
  CHECK(doubts(against) == std::vector<std::string>{"most pairs are against its sign"});
  CHECK(doubts(twofold).size() == 1);
  CHECK(doubts(unjudged).size() == 1);
}

TEST_CASE("[steering.hold_outs] mirrored pairs have a vote of 0") {
  const at::Tensor p = normal_doubles({6, 5}, 3), n = normal_doubles({6, 5}, 4);
  const DirectionStatistics mirrored =
      statistics_of({at::cat({p, n}), at::cat({n, p})}, "pca-center");
  CHECK(mirrored.sign_vote_margin == 0);
  CHECK(doubts_of(mirrored).front() == "sign is a guess");
}
