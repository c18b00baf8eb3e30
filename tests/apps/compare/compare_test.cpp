#include "tests/torch_support.h"

#include "apps/compare/compare.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <optional>
#include <tuple>

#include "apps/compare/plan.h"
#include "apps/compare/report.h"
#include "apps/compare/rules.h"
#include "apps/compare/statistics.h"
#include "apps/compare/synthetic_subject.h"
#include "core/io/files.h"
#include "steering/directions/methods.h"
#include "tests/test_support.h"

using namespace vyx::compare;
using vyx::test::contains;
using vyx::test::error_of;

namespace {

CompareOptions quick(int64_t nulls = 0) {
  return {.nulls = nulls, .k = 3, .candidates = 4, .bootstrap = 200};
}

/// The share of a method's mean implicit vector along planted feature j, as a cosine.
double along(const Comparison& comparison, const SyntheticSubject& subject, std::string_view method,
             int64_t feature) {
  return cosine(find_method(comparison, method)->implicit.mean, subject.features()[feature]);
}

double other_shift(const Comparison& comparison, std::string_view method, size_t other) {
  return find_method(comparison, method)->others[other].shift;
}

}  // namespace

TEST_CASE(
    "[compare] PCA mixes the concept with its neighbour, the latent does not, and the report says "
    "so") {
  SyntheticSubject subject;
  const Comparison comparison = compare(subject, subject.true_autoencoder(), quick());

  // The planted truth: features 0 and 1 fire together, so that the sides differ in both.
  CHECK(std::fabs(along(comparison, subject, "pca-center", 0)) > .6);
  CHECK(std::fabs(along(comparison, subject, "pca-center", 1)) > .5);
  CHECK(along(comparison, subject, "mean", 1) > .5);
  CHECK(find_method(comparison, kSingleLatent)->latents == std::vector<int64_t>{0});
  CHECK(along(comparison, subject, kSingleLatent, 0) > .999);
  CHECK(std::fabs(along(comparison, subject, kSingleLatent, 1)) < .01);

  // What it reports: both move the concept, only one of them leaves the neighbour alone.
  const Level& pca = headline_of(*find_method(comparison, "pca-center"), comparison.headline);
  const Level& latent = headline_of(*find_method(comparison, kSingleLatent), comparison.headline);
  CHECK(pca.interval.low > 0);
  CHECK(latent.effect > pca.effect);
  CHECK(other_shift(comparison, "pca-center", 0) > .5 * pca.effect);
  CHECK(std::fabs(other_shift(comparison, kSingleLatent, 0)) < .01 * latent.effect);
  CHECK(std::fabs(other_shift(comparison, "pca-center", 1)) < .3 * pca.effect);
  const auto& nearest = find_method(comparison, "pca-center")->dictionary.nearest;
  CHECK(std::min(nearest[0].latent, nearest[1].latent) == 0);
  CHECK(std::max(nearest[0].latent, nearest[1].latent) == 1);
  CHECK(find_method(comparison, kSingleLatent)->dictionary.nearest[0].latent == 0);
  CHECK(find_method(comparison, "pca-center")->latent_changes.moved >
        find_method(comparison, kSingleLatent)->latent_changes.moved);

  const std::vector<std::string> sentences = answer(comparison);
  CHECK(contains(sentences[0], "partly aligned"));
  CHECK(std::any_of(sentences.begin(), sentences.end(),
                    [](const std::string& s) { return contains(s, "the neighbour +"); }));
}

TEST_CASE("[compare] what is reported is read at exactly the level on the test half") {
  SyntheticSubject subject;
  Measure measure(subject);
  const Comparison comparison = compare(subject, subject.true_autoencoder(), quick());
  for (const MethodResult& method : comparison.methods) {
    CAPTURE(method.name);
    REQUIRE(method.levels.size() == 3);
    for (const Level& level : method.levels) {
      CAPTURE(level.level);
      if (method.family == Family::direction) {
        REQUIRE(level.reached);
        CHECK(level.found.kl == doctest::Approx(level.level).epsilon(.11));  // looked for loosely
      }
      if (!level.reached) continue;  // latents may saturate
      CHECK(level.side_effect.kl_p95 == doctest::Approx(level.level).epsilon(1e-9));
      CHECK(level.side_effect.kl_max >= level.side_effect.kl_p95);
      CHECK(level.log_kl_error > 0);
      CHECK(level.log_kl_error < .15);
    }
  }
  // Measured there, a direction has that KL and that effect; each of the controls too.
  for (const char* name : {"mean", kRandomDirection}) {
    CAPTURE(name);
    const MethodResult* method = find_method(comparison, name);
    const Method again = direction_method(name, method->implicit.mean, comparison.median_norm);
    for (const Level& level : method->levels) {
      CAPTURE(level.level);
      REQUIRE(level.reached);
      const vyx::Edit edit = again.edit(level.dose);
      CHECK(measure.kl_p95(edit, Split::test) == doctest::Approx(level.level).epsilon(.03));
      CHECK(mean(measure.shifts(edit, Split::test)) == doctest::Approx(level.effect).epsilon(.02));
      // The selection half alone would be off by more.
      CHECK(level.dose != level.found.dose);
    }
  }
  for (const char* name : {"pca-center", "mean", "logistic"}) {
    CAPTURE(name);
    const MethodResult* method = find_method(comparison, name);
    REQUIRE(method != nullptr);
    CHECK(std::all_of(method->levels.begin(), method->levels.end(),
                      [](const Level& level) { return level.reached; }));
    CHECK(method->anti_steerable == 0);
    CHECK(method->spearman == doctest::Approx(1));
    CHECK(method->wrong_sign < 0);
    CHECK(method->implicit.varying < 1e-6);  // a control vector is the same for every token
    CHECK(method->accuracy > .9);
  }
  CHECK(find_method(comparison, kSingleLatent)->implicit.varying > 0);
}

TEST_CASE("[compare] the nulls are far below what is planted, and random vectors do not pass") {
  SyntheticSubject subject;
  const Comparison comparison = compare(subject, subject.true_autoencoder(), quick(5));
  for (const char* name : {"pca-center", "mean", "logistic", kSingleLatent}) {
    CAPTURE(name);
    const MethodResult* method = find_method(comparison, name);
    CHECK_FALSE(method->nulls.nulls.empty());
    for (const NullResult& null : method->nulls.nulls) {
      CAPTURE(null.name);
      CHECK(null.draws.size() == (null.name == "foreign contrast sets" ? 2 : 5));
      if (null.name == "rotation") CHECK(null.p == doctest::Approx(1.0 / 6));
    }
  }
  const auto names = [&](const char* name) {
    std::vector<std::string> result;
    for (const NullResult& null : find_method(comparison, name)->nulls.nulls)
      result.push_back(null.name);
    return result;
  };
  using Names = std::vector<std::string>;
  const Names line = {"rotation", "foreign contrast sets", "covariance-matched vectors"};
  CHECK(names("pca-center") == line);
  CHECK(names("pca-diff") == line);
  CHECK(names("mean") ==
        Names{"rotation", "swapped sides", "foreign contrast sets", "covariance-matched vectors"});
  CHECK(names(kSingleLatent) == Names{"rotation"});
  CHECK(names("random direction").empty());
  CHECK(comparison.shared_draws == 5);
  // 5 draws cannot show p ≤ .01: neither passed nor failed.
  const auto rule =
      std::find_if(comparison.rules.begin(), comparison.rules.end(), [](const PassLine& each) {
        return each.method == "mean" && contains(each.rule, "rotation");
      });
  REQUIRE(rule != comparison.rules.end());
  CHECK_FALSE(rule->passed.has_value());
  CHECK(contains(rule->detail, "the least that 5 draws can show"));
  CHECK(std::any_of(comparison.notes.begin(), comparison.notes.end(),
                    [](const auto& note) { return contains(note, "no p below 0.1667"); }));
}

TEST_CASE("[compare] no draw of a null is the concept: 19 draws give the least p there is") {
  SyntheticSubject subject;
  const Comparison comparison = compare(subject, subject.true_autoencoder(), quick(19));
  CHECK(comparison.global_p == doctest::Approx(.05));
  // Swapped sides gave pca-diff the concept, of either sign, in each draw.
  const double concept_effect =
      headline_of(*find_method(comparison, kPcaCenter), comparison.headline).effect;
  for (const MethodResult& method : comparison.methods) {
    if (method.family != Family::direction) continue;
    for (const NullResult& null : method.nulls.nulls) {
      CAPTURE(method.name);
      CAPTURE(null.name);
      const auto found = std::count_if(null.draws.begin(), null.draws.end(), [&](double draw) {
        return std::fabs(draw) > .9 * concept_effect;
      });
      CHECK(2 * found <= static_cast<int64_t>(null.draws.size()));
    }
  }
  // It found nothing, and that is what its p says.
  CHECK(find_method(comparison, "pca-diff")->nulls.p_adjusted > .2);
  CHECK(find_method(comparison, "mean")->nulls.p_adjusted <= .1);
  CHECK(find_method(comparison, kSingleLatent)->nulls.p_adjusted == doctest::Approx(.05));
}

TEST_CASE(
    "[compare] what holds elsewhere is measured: another template, a choice benchmark, foreign "
    "vectors") {
  SyntheticSubject subject;
  const Comparison comparison = compare(subject, subject.true_autoencoder(), quick(2));
  const auto rule = [&](std::string_view method, std::string_view text) {
    const auto found = std::find_if(
        comparison.rules.begin(), comparison.rules.end(),
        [&](const PassLine& line) { return line.method == method && contains(line.rule, text); });
    REQUIRE(found != comparison.rules.end());
    return *found;
  };
  CHECK(comparison.ood_items == 24);
  CHECK(comparison.choice_items == 200);
  CHECK(comparison.choice_chance == .25);
  CHECK(comparison.unedited_accuracy > .5);
  CHECK(comparison.unedited_accuracy < 1);

  const MethodResult& latent = *find_method(comparison, kSingleLatent);
  CHECK(latent.ood->effect == doctest::Approx(headline_of(latent, comparison.headline).effect)
                                  .epsilon(.2));  // the readout is linear
  CHECK(latent.ood->interval.low > 0);
  CHECK(rule(kSingleLatent, "another template").passed == true);
  CHECK(latent.choices->accuracy == comparison.unedited_accuracy);  // it moves no other feature
  CHECK(latent.choices->interval.low < 0);  // that 200 items show no loss does not exclude one
  CHECK(latent.choices->interval.low > -.02);
  CHECK(rule(kSingleLatent, "choice benchmark").passed == true);

  // The neighbour's mean has a part of the concept, and less of it than any method.
  const MethodResult& neighbour = *find_method(comparison, "mean of the neighbour");
  CHECK(neighbour.role == Role::foreign_control);
  CHECK(headline_of(neighbour, comparison.headline).interval.low > 0);
  CHECK(neighbour.nulls.nulls.empty());
  CHECK(neighbour.gain_over_foreign.empty());
  CHECK(std::isnan(neighbour.nulls.p_adjusted));
  REQUIRE(latent.gain_over_foreign.size() == 2);
  CHECK(latent.gain_over_foreign[0].over == "mean of the neighbour");
  // The readout is linear, of gain 0.5: what the vector does is known.
  const Level& of_neighbour = headline_of(neighbour, comparison.headline);
  const double by_hand = .5 * of_neighbour.dose * comparison.median_norm *
                         cosine(neighbour.implicit.mean, subject.features()[0]);
  CHECK(of_neighbour.effect == doctest::Approx(by_hand).epsilon(.02));
  CHECK(latent.gain_over_foreign[0].difference ==
        doctest::Approx(headline_of(latent, comparison.headline).effect - by_hand).epsilon(.03));
  CHECK(latent.gain_over_foreign[0].interval.low > 0);
  CHECK(latent.gain_over_foreign[0].p < .001);  // 24 items
  CHECK(rule(kSingleLatent, "foreign").passed == true);
  CHECK(contains(rule(kSingleLatent, "foreign").detail, "mean of the neighbour"));
  CHECK(std::none_of(comparison.rules.begin(), comparison.rules.end(), [](const PassLine& line) {
    return contains(line.method, "mean of") || contains(line.method, "random");
  }));
  const std::vector<std::string> sentences = answer(comparison);
  for (const char* part : {"On another template (24 pairs)", "Of 200 choices",
                           "Vectors of foreign concepts, dosed alike: mean of the neighbour"})
    CHECK(std::any_of(sentences.begin(), sentences.end(),
                      [&](const std::string& s) { return contains(s, part); }));
}

TEST_CASE(
    "[compare] a control has no part in the largest effect, and a method that it beats fails") {
  // Pairs without a concept, a dictionary that lacks it, and a foreign vector that is the concept's
  // own.
  class Nothing : public SyntheticSubject {
   public:
    Nothing() {
      for (int64_t split = 0; split < 3; ++split)
        pairs_[split] = {background().slice(0, 128 * split, 128 * split + 64),
                         background().slice(0, 128 * split + 64, 128 * split + 128)};
    }
    const ContrastActivations& contrast(Split split) const override {
      return pairs_[static_cast<size_t>(split)];
    }
    ContrastActivations other_contrast(size_t) override {
      return {pairs_[0].negative + 4 * features()[0], pairs_[0].negative};
    }

   private:
    ContrastActivations pairs_[3];
  };
  Nothing subject;
  auto sae = subject.true_autoencoder();
  sae.weights.decoder[0].copy_(subject.features()[5]);
  const Comparison comparison = compare(subject, sae, quick(3));
  double best = -1;
  for (const MethodResult& method : comparison.methods)
    if (method.role == Role::method)
      best = std::max(best, headline_of(method, comparison.headline).effect);
  CHECK(headline_of(*find_method(comparison, "mean of the neighbour"), comparison.headline).effect >
        best + .2);
  CHECK(comparison.global_p > .25);  // the least that 3 draws can show, as the foreign vector would
  const auto line = std::find_if(
      comparison.rules.begin(), comparison.rules.end(),
      [](const PassLine& each) { return each.method == "mean" && contains(each.rule, "foreign"); });
  CHECK(line->passed == false);
}

TEST_CASE(
    "[compare] what was not given is not measured, and what so few items cannot show is neither "
    "passed nor failed") {
  class Bare : public SyntheticSubject {
    using SyntheticSubject::SyntheticSubject;
    std::vector<std::string> others() const override { return {}; }
    const std::vector<size_t>& ood_clusters() const override { return none_; }
    uint64_t ood_tokens() const override { return 0; }
    uint64_t choice_tokens() const override { return 0; }
    std::vector<size_t> none_;
  };
  const auto lines = [](const Comparison& comparison, std::string_view text) {
    std::vector<PassLine> found;
    for (const PassLine& line : comparison.rules)
      if (contains(line.rule, text)) found.push_back(line);
    return found;
  };
  Bare bare;
  const Comparison nothing = compare(bare, bare.true_autoencoder(), quick());
  for (const char* text : {"foreign", "another template", "choice benchmark"})
    for (const PassLine& line : lines(nothing, text)) {
      CHECK_FALSE(line.passed.has_value());
      CHECK(line.detail == "not measured");
    }
  CHECK(lines(nothing, "choice benchmark").size() == vyx::steering::methods().size() + 2);
  CHECK(std::any_of(nothing.notes.begin(), nothing.notes.end(),
                    [](const auto& note) { return contains(note, "no choice benchmark"); }));
  CHECK(to_json(nothing)["methods"][0]["ood"].is_null());
  CHECK(to_json(nothing)["choices"].is_null());

  SyntheticSubject few({.choices = 100});
  const Comparison small = compare(few, few.true_autoencoder(), quick());
  CHECK(find_method(small, kSingleLatent)->choices->change == 0);
  for (const PassLine& line : lines(small, "choice benchmark")) {
    if (line.method != kSingleLatent) continue;
    CHECK_FALSE(line.passed.has_value());
    CHECK(contains(line.detail, "not shown with 100 items"));
  }
}

TEST_CASE("[compare] the rules on another template and on choices follow from the numbers") {
  SyntheticSubject subject;
  Comparison comparison = compare(subject, subject.true_autoencoder(), quick());
  MethodResult& method = comparison.methods.front();
  const double effect = headline_of(method, comparison.headline).effect;
  const auto passed = [&](std::string_view text) {
    for (const PassLine& line : pass_rules(comparison))
      if (line.method == comparison.methods.front().name && contains(line.rule, text))
        return line.passed;
    FAIL("no such rule");
    return std::optional<bool>();
  };
  method.ood->effect = .51 * effect;
  CHECK(passed("another template") == true);
  method.ood->effect = .49 * effect;
  CHECK(passed("another template") == false);
  comparison.choice_items = 1000;
  for (const auto& [change, low, expected] : {std::tuple{-.005, -.015, std::optional(true)},
                                              {-.01, -.025, std::optional<bool>()},
                                              {-.03, -.05, std::optional(false)}}) {
    method.choices = ChoiceAccuracy{.accuracy = .6, .change = change, .interval = {low, 0}};
    CAPTURE(change);
    CHECK(passed("choice benchmark") == expected);
  }
  for (Level& level : comparison.methods.front().levels) level.effect = -.1;
  CHECK_FALSE(passed("another template").has_value());
}

TEST_CASE("[compare] the plan counts what another template and choices cost") {
  class Free : public SyntheticSubject {
    uint64_t ood_tokens() const override { return 0; }
    uint64_t choice_tokens() const override { return 0; }
  };
  const SyntheticSubject subject;
  const Free free;
  const Plan with = plan(subject, quick(3)), without = plan(free, quick(3));
  CHECK(with.methods == without.methods + 9 * 24 + 10 * 200);
  CHECK(with.nulls == without.nulls);
}

TEST_CASE("[compare] the same seed gives the same report, byte for byte") {
  const auto report = [](uint64_t seed) {
    SyntheticSubject subject({.seed = seed});
    CompareOptions options = quick(1);
    options.seed = seed;
    return to_json(compare(subject, subject.true_autoencoder(), options)).dump();
  };
  const std::string first = report(3);
  CHECK(first == report(3));
  CHECK(first != report(4));
}

TEST_CASE("[compare] the report holds every number, and the page stays within its policy") {
  SyntheticSubject subject;
  const Comparison comparison = compare(subject, subject.true_autoencoder(), quick(1));
  const vyx::test::TemporaryFolder folder;
  const ReportPaths paths = write_report(comparison, folder / "report");
  const auto json = vyx::parse_json(vyx::read_text_file(paths.json), "report");
  CHECK(json["methods"].size() == comparison.methods.size());
  CHECK(json["methods"][0]["levels"][1]["shifts"].size() == static_cast<size_t>(comparison.items));
  CHECK(json["provenance"]["synthetic"]["features"] == 24);
  const std::string csv = vyx::read_text_file(paths.csv);
  CHECK(std::count(csv.begin(), csv.end(), '\n') ==
        static_cast<int64_t>(1 + 3 * comparison.methods.size()));
  const std::string page = vyx::read_text_file(paths.page);
  CHECK(contains(page, "default-src 'none'"));
  CHECK_FALSE(contains(page, "<script"));
  CHECK_FALSE(contains(page, "style=\""));
  CHECK(contains(page, "best single latent"));
}

TEST_CASE("[compare] options that cannot be are refused") {
  CHECK(contains(error_of([] { validate({.levels = {}}); }), "no KL level"));
  CHECK(contains(error_of([] { validate({.levels = {0.1, -1}}); }), "KL level of -1"));
  CHECK(contains(error_of([] { validate({.headline = 0.5}); }), "headline's KL level is 0.5"));
  CHECK(contains(error_of([] { validate({.k = 9, .candidates = 8}); }),
                 "--best-k from 1 to --candidates"));
}

TEST_CASE("[compare] an autoencoder of another width, or one that never fires, is refused") {
  SyntheticSubject subject;
  auto narrow = subject.true_autoencoder();
  narrow.config.d_in = narrow.config.d_out = 16;
  CHECK(contains(error_of([&] { compare(subject, narrow, quick()); }), "expected 32"));
  auto dead = subject.true_autoencoder();
  dead.weights.encoder_bias.fill_(-1e3);
  CHECK(contains(error_of([&] { compare(subject, dead, quick()); }), "no latent that fires"));
}
