// What the same steps give without the concept: the nulls.
#pragma once
#include <map>
#include <span>
#include <string>
#include <vector>

#include "apps/compare/measure.h"

namespace vyx::compare {

/// The latents of the comparison, chosen on the selection split: the best one, and the best k.
/// Empty when none fires. `signs`: as LatentScores.
std::vector<Method> choose_latents(const sae::Autoencoder& sae, const at::Tensor& largest,
                                   std::vector<int64_t> candidates, LatentScores& scores, int64_t k,
                                   std::span<const double> signs = {});
/// Scores for `sae`, of each latent set to its largest activation.
LatentScores latent_scores(Measure& measure, const sae::Autoencoder& sae,
                           const at::Tensor& largest);

struct NullInputs {
  const sae::Autoencoder& sae;
  const at::Tensor& largest;  // [latents]
  const at::Tensor& slopes;   // of the selection's preferences [items, d]
  LatentScores& scores;       // of `sae`
  double median_norm = 1;
  std::map<std::string, double> doses;  // each method's headline dose: the search for the dose of
                                        // a null draw begins there
};

/// Effects on the test at the headline level, one per draw, by null and method.
struct Nulls {
  std::vector<double> isotropic,
      covariance;  // a random direction, its sign chosen on the selection split
  // Of each method, on pairs whose sides were swapped at random.
  std::map<std::string, std::vector<double>> labels;
  std::map<std::string, std::vector<double>> latents;  // of random candidates
  std::map<std::string, std::vector<double>> frozen;   // of a frozen random autoencoder
  // The largest of `labels` over methods, [draws]; without methods that ignore sides.
  std::vector<double> any;
};
Nulls draw_nulls(Measure& measure, const NullInputs& inputs, const CompareOptions& options);

}  // namespace vyx::compare
