#include "apps/compare/nulls.h"

#include <ATen/Functions.h>
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <map>
#include <utility>

#include "core/base/random.h"

namespace vyx::compare {
namespace {

// Streams of the seed, one a use.
enum NullStream : uint64_t { kIsotropic = 101, kCovariance, kSwaps, kLatents, kFrozen };

constexpr double kNoLatent = 0;  // the effect of a null draw in which no latent was there to be set

/// The pairs with both sides swapped where a coin of (seed, draw, stream) says so.
/// [n, 1] bool.
at::Tensor coins(int64_t n, uint64_t seed, uint64_t draw, uint64_t purpose) {
  at::Tensor heads = at::empty({n, 1}, at::kBool);
  for (int64_t i = 0; i < n; ++i)
    heads.mutable_data_ptr<bool>()[i] =
        (random_bits(seed, kSwaps, (draw * 4 + purpose) << 32 | static_cast<uint64_t>(i)) & 1) != 0;
  return heads;
}

ContrastActivations swapped(const ContrastActivations& pairs, uint64_t seed, uint64_t draw,
                            uint64_t split) {
  const at::Tensor swap = coins(pairs.positive.size(0), seed, draw, split);
  return {at::where(swap, pairs.negative, pairs.positive),
          at::where(swap, pairs.positive, pairs.negative)};
}

/// Where the search for the dose of a draw of `name` begins.
double dose_near(const NullInputs& inputs, const std::string& name, Family family) {
  const auto found = inputs.doses.find(name);
  return found != inputs.doses.end() ? found->second : first_dose(family);
}

/// A direction without a concept has no sign: it gets the better one on the selection split, as a
/// method's own choices are made there.
double best_sign_effect(Measure& measure, const at::Tensor& vector, const NullInputs& inputs,
                        double headline) {
  const Method method = direction_method(kRandomDirection, vector, inputs.median_norm);
  const double dose =
      measure.finder(method, dose_near(inputs, kMean, Family::direction)).find(headline).dose;
  const double sign = measure.effect(method.edit(dose), Split::selection) < 0 ? -1 : 1;
  return measure.effect(method.edit(sign * dose), Split::test);
}

/// The effects of one autoencoder's latents, measured once each: many draws choose the same ones.
class LatentEffects {
 public:
  LatentEffects(Measure& measure, const NullInputs& inputs) : measure_(measure), inputs_(inputs) {}

  double operator()(const Method& method) {
    const auto [place, added] = known_.try_emplace({method.name, method.latents});
    if (added)
      place->second =
          measure_.headline_effect(method, dose_near(inputs_, method.name, Family::latent));
    return place->second;
  }

  /// Adds each latent method's effect to `draws`.
  void add(const std::vector<Method>& methods, std::map<std::string, std::vector<double>>& draws) {
    for (const char* name : {kSingleLatent, kBestLatents}) {
      const auto method = std::find_if(methods.begin(), methods.end(),
                                       [&](const Method& m) { return m.name == name; });
      draws[name].push_back(method == methods.end() ? kNoLatent : (*this)(*method));
    }
  }

 private:
  Measure& measure_;
  const NullInputs& inputs_;
  std::map<std::pair<std::string, std::vector<int64_t>>, double> known_;
};

}  // namespace

LatentScores latent_scores(Measure& measure, const sae::Autoencoder& sae,
                           const at::Tensor& largest) {
  return LatentScores([&measure, &sae, &largest](int64_t latent) {
    return measure.response(latent_method("candidate", sae, {latent}, largest), /*dose=*/1);
  });
}

std::vector<Method> choose_latents(const sae::Autoencoder& sae, const at::Tensor& largest,
                                   std::vector<int64_t> candidates, LatentScores& scores, int64_t k,
                                   std::span<const double> signs) {
  std::vector<Method> methods;
  if (candidates.empty()) return methods;
  const std::vector<int64_t> ranked = scores.ranked(std::move(candidates), signs);
  methods.push_back(latent_method(kSingleLatent, sae, {ranked.front()}, largest));
  // Latents that move the model away from the concept are none of the best.
  std::vector<int64_t> best;
  for (const int64_t latent : ranked)
    if (static_cast<int64_t>(best.size()) < k && (best.empty() || scores(latent, signs) > 0))
      best.push_back(latent);
  methods.push_back(latent_method(kBestLatents, sae, std::move(best), largest));
  return methods;
}

Nulls draw_nulls(Measure& measure, const NullInputs& inputs, const CompareOptions& options) {
  Nulls nulls;
  if (options.nulls == 0) return nulls;
  Subject& subject = measure.subject();
  const auto draws = static_cast<uint64_t>(options.nulls);
  const auto step = [&](const char* what) {
    if (options.on_step) options.on_step(fmt::format("null: {} {}", options.nulls, what));
  };

  step("isotropic and covariance-matched vectors");
  const at::Tensor isotropic =
      isotropic_vectors(options.nulls, subject.width(), random_bits(options.seed, kIsotropic, 0));
  const at::Tensor covariance = covariance_matched_vectors(
      options.nulls, subject.background(), random_bits(options.seed, kCovariance, 0));
  for (int64_t i = 0; i < options.nulls; ++i) {
    nulls.isotropic.push_back(best_sign_effect(measure, isotropic[i], inputs, options.headline));
    nulls.covariance.push_back(best_sign_effect(measure, covariance[i], inputs, options.headline));
  }

  LatentEffects effects(measure, inputs);
  step("shuffled labels");
  for (uint64_t draw = 0; draw < draws; ++draw) {
    const ContrastActivations extraction =
        swapped(subject.contrast(Split::extraction), options.seed, draw, 0);
    const ContrastActivations selection =
        swapped(subject.contrast(Split::selection), options.seed, draw, 1);
    std::vector<Method> methods = extract_directions(
        {.pairs = extraction, .selection = selection, .median_norm = inputs.median_norm});
    const at::Tensor swap = coins(inputs.slopes.size(0), options.seed, draw, 2);      // [items, 1]
    const at::Tensor slope = at::where(swap, -inputs.slopes, inputs.slopes).mean(0);  // [d]
    std::vector<double> signs;  // [items of the selection]
    for (int64_t i = 0; i < swap.size(0); ++i) signs.push_back(swap[i].item<bool>() ? -1 : 1);
    const std::vector<int64_t> candidates =
        propose_latents(inputs.sae, selection.positive, selection.negative, slope, inputs.largest,
                        options.candidates);
    for (Method& method :
         choose_latents(inputs.sae, inputs.largest, candidates, inputs.scores, options.k, signs))
      methods.push_back(std::move(method));
    double any = -std::numeric_limits<double>::infinity();
    for (const Method& method : methods) {
      // Its null would be its own direction with a random sign.
      if (method.ignores_sides) continue;
      const double effect =
          method.family == Family::latent
              ? effects(method)
              : measure.headline_effect(method, dose_near(inputs, method.name, method.family));
      nulls.labels[method.name].push_back(effect);
      any = std::max(any, effect);
    }
    if (!methods.empty()) nulls.any.push_back(any);
  }

  step("sets of random latents");
  for (uint64_t draw = 0; draw < draws; ++draw) {
    const std::vector<int64_t> candidates = random_latents(
        inputs.largest, options.candidates, random_bits(options.seed, kLatents, draw));
    effects.add(choose_latents(inputs.sae, inputs.largest, candidates, inputs.scores, options.k),
                nulls.latents);
  }

  step("frozen random autoencoders");
  const ContrastActivations& selection = subject.contrast(Split::selection);
  const at::Tensor rows =
      at::cat({subject.background(), subject.contrast(Split::extraction).positive});
  for (uint64_t draw = 0; draw < draws; ++draw) {
    const sae::Autoencoder random =
        frozen_random(inputs.sae, random_bits(options.seed, kFrozen, draw) >> 2);
    const at::Tensor largest = largest_activations(random, rows);
    LatentScores scores = latent_scores(measure, random, largest);
    const std::vector<int64_t> candidates =
        propose_latents(random, selection.positive, selection.negative, inputs.slopes.mean(0),
                        largest, options.candidates);
    LatentEffects(measure, inputs)
        .add(choose_latents(random, largest, candidates, scores, options.k), nulls.frozen);
  }
  return nulls;
}

}  // namespace vyx::compare
