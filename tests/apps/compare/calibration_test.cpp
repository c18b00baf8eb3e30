// Are the nulls' p-values right? Without a link between concept and output they must be uniform,
// for each null and each method that it is said to be valid for; with one they must find it.
#include "tests/torch_support.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <utility>

#include "apps/compare/draws.h"
#include "apps/compare/p_values.h"
#include "apps/compare/synthetic_subject.h"
#include "apps/compare/turn.h"
#include "tests/apps/compare/uniformity.h"
#include "tests/test_support.h"

using namespace vyx::compare;

namespace {

constexpr int64_t kDraws = 19;  // of each null: .05 is the least p

// --- Without a model: an effect that is known as a function of the direction
// -----------------------

constexpr int kWorlds = 400, kFewWorlds = 200;
constexpr int64_t kWidth = 16, kPairs = 64, kRows = 128;

struct CalibrationWorld {
  NullSource source;
  at::Tensor preference;  // w̄ [d] float64: how the output depends on x
  at::Tensor fisher;      // F [d, d] float64: KL ≈ ½·vᵀFv

  /// At equal KL, of one direction.
  double effect(const at::Tensor& v) const {
    return std::sqrt(.6) * preference.dot(v).item<double>() /
           std::sqrt(v.dot(fisher.mv(v)).item<double>());
  }
};

struct WorldOptions {
  double concept_share = 0;  // |μ|² over the variance of the pairs' differences
  double cosine = 0;         // of the concept and what the output depends on
  size_t foreign = 0;        // contrast sets of other concepts
  int64_t number = 0;
};

CalibrationWorld make_world(const WorldOptions& options) {
  at::Generator random = at::detail::createCPUGenerator(static_cast<uint64_t>(1 + options.number));
  const auto normal = [&](at::IntArrayRef shape) {
    return at::randn(shape, random, at::TensorOptions(at::kDouble));
  };
  // Activations vary eight times as much along their strongest axis as along their weakest.
  const at::Tensor scale = at::linspace(1, std::sqrt(8), kWidth, at::kDouble);  // [d]
  const double variance = scale.square().sum().item<double>();
  const auto concept_of = [&](double share) {
    const at::Tensor direction = normal({kWidth});
    return direction * (std::sqrt(share * variance) / direction.norm());  // [d]
  };
  const auto pairs_of = [&](const at::Tensor& difference, int64_t pairs) -> ContrastActivations {
    const at::Tensor shared = normal({pairs, kWidth}) * scale;                   // [pairs, d]
    const at::Tensor half = (difference + normal({pairs, kWidth}) * scale) / 2;  // [pairs, d]
    return {(shared + half).to(at::kFloat), (shared - half).to(at::kFloat)};
  };
  CalibrationWorld world;
  const at::Tensor found = concept_of(options.concept_share);
  world.source.input.extraction = pairs_of(found, kPairs);
  world.source.input.selection = pairs_of(found, kPairs / 4);
  world.source.rows = (normal({kRows, kWidth}) * scale).to(at::kFloat);
  world.source.spread = spread_of(world.source.rows);
  for (size_t i = 0; i < options.foreign; ++i)
    world.source.foreign.push_back(pairs_of(concept_of(.3), kPairs));
  for (auto [groups, pairs] : {std::pair(&world.source.extraction_groups, kPairs),
                               std::pair(&world.source.selection_groups, kPairs / 4)}) {
    groups->resize(static_cast<size_t>(pairs));
    std::iota(groups->begin(), groups->end(), size_t{0});
  }
  world.source.seed = static_cast<uint64_t>(options.number);
  world.source.input.directions =
      find_directions(world.source.input, {"mean", "pca-center", "pca-diff"});

  const at::Tensor root = normal({kWidth, 2 * kWidth});
  world.fisher = root.mm(root.t()) / (2 * kWidth);
  at::Tensor other = normal({kWidth});
  if (options.cosine > 0) {
    const at::Tensor along = found / found.norm();
    other -= along * other.dot(along);
    world.preference = options.cosine * along +
                       std::sqrt(1 - options.cosine * options.cosine) * other / other.norm();
  } else {
    world.preference = other;
  }
  return world;
}

/// The p-values of one method against one null, over worlds.
struct Verdict {
  int low = 0, quarter = 0, worlds = 0;  // p ≤ .05, p ≤ .25
  void add(double p) {
    low += p <= .05;
    quarter += p <= .25;
    ++worlds;
  }
  /// A sound null, with 5 and 25 % of the worlds, is outside of this once in 10,000 times.
  bool is_sound() const {
    return worlds == kWorlds
               ? low >= 5 && low <= 39 && quarter >= 68 && quarter <= 135
               : worlds == kFewWorlds && low >= 1 && low <= 24 && quarter >= 28 && quarter <= 75;
  }
};
std::ostream& operator<<(std::ostream& out, const Verdict& verdict) {
  return out << verdict.low << " and " << verdict.quarter << " of " << verdict.worlds;
}

const Null& null_called(std::string_view name) {
  return *std::find_if(nulls().begin(), nulls().end(),
                       [&](const Null& null) { return null.name == name; });
}

/// Each method's p in one world, by "method / null".
std::map<std::string, double> p_values(const CalibrationWorld& world,
                                       const std::vector<const Null*>& tried) {
  std::map<std::string, double> result;
  for (const Null* null : tried) {
    std::map<std::string, std::vector<double>> draws;  // by method; "" for each
    for (uint64_t draw = 0; draw < kDraws; ++draw)
      for (const Method& method : null->replaced(world.source, draw).directions)
        draws[null->is_one_vector ? "" : method.name].push_back(world.effect(method.direction));
    for (const Method& method : world.source.input.directions)
      if (is_valid(*null, world.source, method.name))
        result[method.name + " / " + std::string(null->name)] =
            null_p(world.effect(method.direction), draws[null->is_one_vector ? "" : method.name]);
  }
  return result;
}

}  // namespace

TEST_CASE(
    "[compare.calibration] each null is sound for the methods that it is said to be valid for") {
  for (const double share : {0., .3}) {
    CAPTURE(share);
    std::map<std::string, Verdict> verdicts;
    for (int64_t number = 0; number < kWorlds; ++number) {
      const CalibrationWorld world = make_world({.concept_share = share, .number = number});
      for (const auto& [name, p] :
           p_values(world, {&null_called("rotation"), &null_called("swapped sides"),
                            &null_called("covariance-matched vectors")}))
        verdicts[name].add(p);
    }
    CHECK(verdicts.size() == 7);  // three of a rotation and of the background, mean's swapped sides
    for (const auto& [name, verdict] : verdicts) {
      CAPTURE(name);
      CAPTURE(verdict);
      CHECK(verdict.is_sound());
    }
  }
}

TEST_CASE("[compare.calibration] contrast sets of other concepts are a sound null for directions") {
  std::map<std::string, Verdict> verdicts;
  for (int64_t number = 0; number < kFewWorlds; ++number)
    for (const auto& [name, p] :
         p_values(make_world({.concept_share = .3, .foreign = kDraws, .number = number}),
                  {&null_called("foreign contrast sets")}))
      verdicts[name].add(p);
  CHECK(verdicts.size() == 3);
  for (const auto& [name, verdict] : verdicts) {
    CAPTURE(name);
    CAPTURE(verdict);
    CHECK(verdict.is_sound());
  }
}

TEST_CASE(
    "[compare.calibration] a null that gets the better sign, and the method not, is found out") {
  Verdict verdict;
  for (int64_t number = 0; number < kWorlds; ++number) {
    const CalibrationWorld world = make_world({.concept_share = .3, .number = number});
    std::vector<double> draws;
    for (uint64_t draw = 0; draw < kDraws; ++draw)
      draws.push_back(std::fabs(world.effect(
          null_called("rotation").replaced(world.source, draw).directions.front().direction)));
    verdict.add(null_p(world.effect(world.source.input.directions.front().direction), draws));
  }
  CAPTURE(verdict);
  CHECK(verdict.quarter < 68);
  CHECK_FALSE(verdict.is_sound());
}

TEST_CASE("[compare.calibration] swapped sides are no null for principal components") {
  // pca-center is left two directions, and pca-diff given the concept that it removes.
  std::map<std::string, Verdict> verdicts;
  for (int64_t number = 0; number < kFewWorlds; ++number) {
    const CalibrationWorld world = make_world({.concept_share = .3, .number = number});
    std::map<std::string, std::vector<double>> draws;
    for (uint64_t draw = 0; draw < kDraws; ++draw)
      for (const Method& method :
           find_directions(null_called("swapped sides").replaced(world.source, draw),
                           {"pca-center", "pca-diff"}))
        draws[method.name].push_back(world.effect(method.direction));
    for (const Method& method : world.source.input.directions)
      if (draws.contains(method.name))
        verdicts[method.name].add(null_p(world.effect(method.direction), draws[method.name]));
  }
  CHECK(verdicts.at("pca-center").quarter < 10);
  CHECK(verdicts.at("pca-diff").low > 24);
  CHECK_FALSE(verdicts.at("pca-center").is_sound());
  CHECK_FALSE(verdicts.at("pca-diff").is_sound());
}

TEST_CASE("[compare.calibration] a planted concept is found in half of the worlds and more") {
  std::map<std::string, Verdict> verdicts;
  for (int64_t number = 0; number < kWorlds / 4; ++number)
    for (const auto& [name, p] :
         p_values(make_world({.concept_share = .3, .cosine = .8, .number = number}),
                  {&null_called("rotation"), &null_called("swapped sides")}))
      verdicts[name].add(p);
  CHECK(verdicts.at("mean / rotation").low >= 90);  // of 100
  CHECK(verdicts.at("mean / swapped sides").low >= 50);
  CHECK(verdicts.at("pca-center / rotation").low >= 90);
  CHECK(verdicts.at("pca-diff / rotation").low <= 30);  // it takes the concept out
}

// --- The whole road, on the synthetic subject
// -------------------------------------------------------

namespace {

constexpr uint64_t kSeeds = 200;
constexpr uint64_t kTurn = 1'000'000;  // a seed that no draw has

struct RoadWorld {
  SyntheticOptions subject;
  int64_t draws = 9;
  std::vector<std::string> methods;  // of directions; {}: all
};

NullTests tests_of(const RoadWorld& world) {
  SyntheticSubject subject(world.subject);
  Measure measure(subject);
  const at::Tensor& rows = subject.background();
  const Spread spread = spread_of(rows);
  vyx::sae::Autoencoder sae = subject.true_autoencoder();
  // Without a concept the dictionary has nothing to do with the output either: the true features
  // are what the model reads, and do better than a turned dictionary whatever is asked for.
  if (!world.subject.has_concept)
    sae = turned(sae, spread, random_rotation(subject.width(), kTurn + world.subject.seed));
  NullSource source{.input = {.extraction = subject.contrast(Split::extraction),
                              .selection = subject.contrast(Split::selection),
                              .latents = latents_over(sae, rows),
                              .slope = subject.preference_slopes(Split::selection).mean(0),
                              .median_norm = rows.norm(2, {1}).median().item<double>()},
                    .spread = spread,
                    .rows = rows,
                    .extraction_groups = subject.contrast_groups(Split::extraction),
                    .selection_groups = subject.contrast_groups(Split::selection),
                    .seed = world.subject.seed};
  source.input.directions = find_directions(source.input, world.methods);
  KeptDraws none;
  return draw_nulls(measure, source, {.draws = world.draws, .road = {.k = 3, .candidates = 6}},
                    none);
}

/// p-values of one kind over seeds, and for each the largest p below that it could have been.
struct OverSeeds {
  std::vector<double> p, next_smaller;
  void add(double value, double next) {
    p.push_back(value);
    next_smaller.push_back(next);
  }
  double uniform() const { return vyx::test::uniform_p(vyx::test::spread(p, next_smaller, 1)); }
  double not_too_small() const {
    return vyx::test::not_too_small_p(vyx::test::spread(p, next_smaller, 1));
  }
  double share_below(double level) const {
    return static_cast<double>(
               std::count_if(p.begin(), p.end(), [&](double value) { return value <= level; })) /
           static_cast<double>(p.size());
  }
};

struct Collected {
  std::map<std::string, OverSeeds> by_null, adjusted;  // by "method / null", by method
  OverSeeds global;
};

Collected collect(uint64_t seeds, RoadWorld world) {
  const double step = 1 / static_cast<double>(1 + world.draws);
  Collected result;
  for (world.subject.seed = 0; world.subject.seed < seeds; ++world.subject.seed) {
    const NullTests tests = tests_of(world);
    result.global.add(tests.global_p, tests.global_p - step);
    for (const MethodNulls& method : tests.methods) {
      for (const NullResult& null : method.nulls) {
        const auto reached =
            static_cast<double>(std::count_if(null.draws.begin(), null.draws.end(),
                                              [&](double draw) { return draw >= null.observed; }));
        result.by_null[method.method + " / " + null.name].add(
            null.p, reached / static_cast<double>(1 + null.draws.size()));
      }
      if (!std::isnan(method.p_adjusted))
        result.adjusted[method.method].add(method.p_adjusted, method.p_adjusted - step);
    }
  }
  return result;
}

void check_uniform(const Collected& found) {
  CHECK(found.global.uniform() > .001);
  for (const auto& [name, over_seeds] : found.by_null) {
    CAPTURE(name);
    CAPTURE(over_seeds.p.size());
    CAPTURE(over_seeds.share_below(.1));
    CAPTURE(over_seeds.share_below(.3));
    CHECK(over_seeds.uniform() > .001);
  }
  for (const auto& [name, over_seeds] : found.adjusted) {
    CAPTURE(name);
    CHECK(over_seeds.not_too_small() > .001);
  }
}

}  // namespace

TEST_CASE("[compare.calibration] without a concept every p of the comparison is uniform") {
  const SyntheticOptions small{.width = 16,
                               .features = 16,
                               .pairs = 64,
                               .rows = 128,
                               .choices = 4,
                               .items = 12,
                               .has_concept = false};
  const Collected found =
      collect(kSeeds, {.subject = small, .methods = {"mean", "pca-center", "pca-diff"}});
  CHECK(found.global.p.size() == kSeeds);
  // Of each direction rotation and background, mean's swapped sides, the latents' rotation.
  CHECK(found.by_null.size() == 9);
  CHECK(found.adjusted.size() == 5);
  check_uniform(found);
  // The regression, which takes the longest, over fewer seeds.
  const Collected regression = collect(kSeeds / 5, {.subject = small, .methods = {"logistic"}});
  CHECK(regression.by_null.contains("logistic / swapped sides"));
  check_uniform(regression);
}

TEST_CASE(
    "[compare.calibration] a planted concept is found nine times in ten, along the whole road") {
  const Collected found = collect(10, {.draws = 19});
  CHECK(found.global.share_below(.05) >= .9);
  CHECK(found.adjusted.at(kSingleLatent).share_below(.05) >= .9);
  for (const std::string name : {"mean", "logistic", "pca-center", "best single latent"}) {
    CAPTURE(name);
    CHECK(found.by_null.at(name + " / rotation").share_below(.05) >= .9);
    // Swapped sides still have the concept along them, by chance: their power is less.
    if (const auto swapped = found.by_null.find(name + " / swapped sides");
        swapped != found.by_null.end())
      CHECK(swapped->second.share_below(.1) >= .7);
  }
  CHECK(found.by_null.contains("mean / swapped sides"));
}
