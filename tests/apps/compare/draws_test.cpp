#include "tests/torch_support.h"

#include "apps/compare/draws.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>

#include "apps/compare/geometry.h"
#include "apps/compare/synthetic_subject.h"
#include "core/io/files.h"
#include "tests/test_support.h"

using namespace vyx::compare;
using vyx::test::contains;

namespace {

struct World {
  explicit World(SyntheticSubject& subject, const std::function<void(uint64_t)>& on_tokens = {})
      : measure(subject, on_tokens) {
    const at::Tensor& rows = subject.background();
    source.input = {.extraction = subject.contrast(Split::extraction),
                    .selection = subject.contrast(Split::selection),
                    .latents = latents_over(subject.true_autoencoder(), rows),
                    .slope = subject.preference_slopes(Split::selection).mean(0),
                    .median_norm = rows.norm(2, {1}).median().item<double>()};
    source.input.directions = find_directions(source.input);
    source.spread = spread_of(rows);
    source.rows = rows;
    source.foreign = {subject.other_contrast(0), subject.other_contrast(1)};
    source.extraction_groups = subject.contrast_groups(Split::extraction);
    source.selection_groups = subject.contrast_groups(Split::selection);
  }
  NullTests draw(int64_t draws, KeptDraws& kept) {
    return draw_nulls(measure, source, {.draws = draws, .road = {.k = 3, .candidates = 4}}, kept);
  }
  NullTests draw(int64_t draws) {
    KeptDraws none;
    return draw(draws, none);
  }

  Measure measure;
  NullSource source;
};

const Null& null_named(std::string_view name) {
  return *std::find_if(nulls().begin(), nulls().end(),
                       [&](const Null& null) { return null.name == name; });
}

/// All draws, by method and null.
std::map<std::string, std::vector<double>> all_draws(const NullTests& tests) {
  std::map<std::string, std::vector<double>> result;
  for (const MethodNulls& method : tests.methods)
    for (const NullResult& null : method.nulls)
      result[method.method + "/" + null.name] = null.draws;
  return result;
}

}  // namespace

TEST_CASE("[compare.nulls] each replaces one part of the input, the same for a draw's number") {
  SyntheticSubject subject;
  const World world(subject);
  const RoadInput& input = world.source.input;
  for (const Null& null : nulls()) {
    CAPTURE(null.name);
    const RoadInput a = null.replaced(world.source, 1), again = null.replaced(world.source, 1),
                    b = null.replaced(world.source, 0);
    REQUIRE_FALSE(a.directions.empty());
    CHECK(at::equal(a.directions[0].direction, again.directions[0].direction));
    CHECK_FALSE(at::equal(a.directions[0].direction, b.directions[0].direction));
    CHECK(at::equal(a.slope, input.slope));
    CHECK(a.median_norm == input.median_norm);
    CHECK(a.latents.has_value() == null.drives_all);
  }

  // A rotation keeps the methods' angles, and the norms of activations that latents read.
  const RoadInput turned = null_named("rotation").replaced(world.source, 0);
  REQUIRE(turned.directions.size() == input.directions.size());
  CHECK(cosine(turned.directions[0].direction, turned.directions[2].direction) ==
        doctest::Approx(cosine(input.directions[0].direction, input.directions[2].direction)));
  CHECK(std::fabs(cosine(turned.directions[0].direction, input.directions[0].direction)) < .7);
  const double fired = (input.latents->largest > 0).sum().item<double>();
  CHECK((turned.latents->largest > 0).sum().item<double>() == doctest::Approx(fired).epsilon(.2));

  // Only methods that know sides see them swapped; what a pair is stays.
  const RoadInput swapped = null_named("swapped sides").replaced(world.source, 0);
  std::vector<std::string> names;
  for (const Method& method : swapped.directions) names.push_back(method.name);
  CHECK(names == std::vector<std::string>{"mean", "logistic"});
  CHECK(at::allclose(swapped.extraction.positive + swapped.extraction.negative,
                     input.extraction.positive + input.extraction.negative));
  const at::Tensor same =
      (swapped.extraction.positive == input.extraction.positive).all(1);  // [pairs]
  CHECK(same.any().item<bool>());
  CHECK_FALSE(same.all().item<bool>());
}

TEST_CASE("[compare.nulls] pairs of one group are swapped together") {
  SyntheticSubject subject;
  World world(subject);
  for (size_t i = 0; i < world.source.extraction_groups.size(); ++i)
    world.source.extraction_groups[i] = i / 4;
  const RoadInput swapped = null_named("swapped sides").replaced(world.source, 3);
  const at::Tensor same = (swapped.extraction.positive == world.source.input.extraction.positive)
                              .all(1)
                              .view({-1, 4});  // [groups, 4]
  CHECK(at::equal(same.all(1), same.any(1)));
  CHECK(same.any().item<bool>());
  CHECK_FALSE(same.all().item<bool>());
}

TEST_CASE("[compare.nulls] a dictionary whose activations have norms of their own has none") {
  SyntheticSubject subject;
  World world(subject);
  world.source.input.latents->sae.config.normalization = vyx::sae::Normalization::token_norm;
  CHECK(is_valid(null_named("rotation"), world.source, "mean"));
  CHECK_FALSE(is_valid(null_named("rotation"), world.source, kSingleLatent));
  const NullTests tests = world.draw(2);
  for (const MethodNulls& method : tests.methods) {
    CAPTURE(method.method);
    const bool latents = method.method == kSingleLatent || method.method == kBestLatents;
    CHECK(method.nulls.empty() == latents);
    CHECK(std::isnan(method.p_adjusted) == latents);
  }
}

TEST_CASE("[compare.draws] the same seed gives the same draws, however they are batched") {
  class OneByOne : public SyntheticSubject {
   public:
    using SyntheticSubject::neutral, SyntheticSubject::preference;
    std::vector<std::vector<double>> preference(Split split, Edits edits) override {
      std::vector<std::vector<double>> result;
      for (const vyx::Edit* const& edit : edits)
        result.push_back(SyntheticSubject::preference(split, Edits(&edit, 1)).front());
      return result;
    }
    std::vector<vyx::steering::NeutralEffect> neutral(Split split, Edits edits) override {
      std::vector<vyx::steering::NeutralEffect> result;
      for (const vyx::Edit* const& edit : edits)
        result.push_back(SyntheticSubject::neutral(split, Edits(&edit, 1)).front());
      return result;
    }
  };
  SyntheticSubject together;
  OneByOne apart;
  const auto a = all_draws(World(together).draw(4)), b = all_draws(World(apart).draw(4));
  REQUIRE(a.size() == b.size());
  for (const auto& [name, draws] : a) {
    CAPTURE(name);
    REQUIRE(draws.size() == b.at(name).size());
    for (size_t i = 0; i < draws.size(); ++i)
      CHECK(draws[i] == doctest::Approx(b.at(name)[i]).epsilon(1e-4));
  }
  World other(together);
  other.source.seed = 1;
  CHECK(all_draws(other.draw(4)) != a);
}

TEST_CASE("[compare.draws] what was killed goes on, to the same results") {
  struct Killed {};
  const vyx::test::TemporaryFolder folder;
  const std::filesystem::path path = folder / "draws.json";
  std::vector<std::string> messages;
  const auto kept_for = [&](const char* digest) {
    return KeptDraws(path, digest,
                     [&](const std::string& message) { messages.push_back(message); });
  };
  SyntheticSubject subject;
  World straight(subject);
  const auto expected = all_draws(straight.draw(6));

  World killed(subject, [calls = 0](uint64_t) mutable {
    if (++calls == 30) throw Killed();
  });
  {
    KeptDraws kept = kept_for("inputs");
    CHECK_THROWS_AS(killed.draw(6, kept), Killed);
    CHECK(kept.size() > 2);
    CHECK(kept.size() < 10);
  }
  CHECK(messages.empty());
  KeptDraws kept = kept_for("inputs");
  const size_t before = kept.size();
  REQUIRE(messages.size() == 1);
  CHECK(contains(messages[0], "draws.json: goes on from"));
  World again(subject);
  const NullTests tests = again.draw(6, kept);
  CHECK(before > 2);
  CHECK(all_draws(tests) == expected);  // to the last bit
  CHECK(again.measure.tokens() == straight.measure.tokens());

  // More draws of the same: the first ones are kept.
  KeptDraws more = kept_for("inputs");
  CHECK(more.size() > before);

  // Other inputs, or a file that is none: never mixed, and said.
  messages.clear();
  CHECK(kept_for("other inputs").size() == 0);
  CHECK(contains(messages.at(0), "drawn anew: they are of other inputs or options"));
  for (const char* text : {"", "{\"digest\": \"inputs\", \"draws\": [{\"null\": 3}]}", "[1, 2"}) {
    vyx::write_file(path, text);
    messages.clear();
    CHECK(kept_for("inputs").size() == 0);
    CHECK(contains(messages.at(0), "draws.json: its draws are not used, and drawn anew:"));
  }
}

TEST_CASE("[compare.draws] draws that drive one method stop when enough have reached its effect") {
  SyntheticSubject subject({.has_concept = false});
  World world(subject);
  const NullTests tests = world.draw(60);
  bool stopped = false;
  for (const MethodNulls& method : tests.methods)
    for (const NullResult& null : method.nulls) {
      CAPTURE(method.method);
      CAPTURE(null.name);
      const auto reached = std::count_if(null.draws.begin(), null.draws.end(),
                                         [&](double draw) { return draw >= null.observed; });
      if (null.name == "rotation") {
        CHECK(null.draws.size() == 60);
        CHECK_FALSE(null.stopped_early);
        continue;
      }
      stopped = stopped || null.stopped_early;
      CHECK(reached <= 10);
      CHECK(null.stopped_early == (reached == 10));
      if (null.stopped_early)
        CHECK(null.p == doctest::Approx(10.0 / static_cast<double>(null.draws.size())));
    }
  CHECK(stopped);
}
