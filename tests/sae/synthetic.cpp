#include "tests/sae/synthetic.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Functions.h>

#include "core/base/error.h"
#include "core/base/random.h"

namespace vyx::test {
namespace {

enum Stream : uint64_t { kWorld, kTrees, kRows };

at::Generator generator(uint64_t seed, Stream stream, uint64_t index) {
  return at::detail::createCPUGenerator(random_bits(seed, stream, index));
}

}  // namespace

Synthetic::Synthetic(const SyntheticOptions& options) : options_(options) {
  const int64_t n = options.features;
  const at::Generator random = generator(options.seed, kWorld, 0);
  const auto normal = [&](at::IntArrayRef shape) {
    return at::randn(shape, random, at::TensorOptions(at::kFloat));
  };

  features_ = normal({n, options.width});
  features_ /= features_.norm(2, {1}, /*keepdim=*/true);
  const at::Tensor direction = normal({options.width});
  bias_ = direction / direction.norm() * options.bias;

  const at::Tensor zipf =
      at::arange(1, n + 1, at::kDouble).pow(-options.zipf);  // [features], falling
  const at::Tensor share = n == 1 ? at::ones_like(zipf) : (zipf - zipf[-1]) / (zipf[0] - zipf[-1]);
  probabilities_ =
      (options.least_frequent + (options.most_frequent - options.least_frequent) * share)
          .to(at::kFloat);
  thresholds_ = at::special_ndtri(1 - probabilities_.to(at::kDouble)).to(at::kFloat);
  loadings_ = normal({n, options.correlation_rank}) * options.correlation_scale;
  rest_ = (1 - loadings_.square().sum(1)).clamp_min(0).sqrt();
  magnitudes_ = at::linspace(options.first_magnitude, options.last_magnitude, n, at::kFloat);
  magnitude_deviations_ = (options.magnitude_deviation * (1 + normal({n}))).abs();
  plant_trees();
  norms_ = sae::norms_of(rows(0).x, "synthetic");
}

void Synthetic::plant_trees() {
  const int64_t n = options_.features;
  parents_ = at::full({n}, -1, at::kLong);
  int64_t used = options_.roots, above = options_.roots, first = 0;
  for (int64_t depth = 0; depth < options_.depth; ++depth) used += above *= options_.branching;
  if (used > n) fail("{} features in {} trees, expected at most {}", used, options_.roots, n);
  // Frequencies are dealt to the trees' places at random.
  const at::Tensor order =
      at::randperm(n, generator(options_.seed, kTrees, 0), at::TensorOptions(at::kLong));
  int64_t level = options_.roots;
  for (int64_t depth = 0; depth < options_.depth && level > 0; ++depth) {
    const at::Tensor parents = order.slice(0, first, first + level);
    const at::Tensor children =
        order.slice(0, first + level, first + level + level * options_.branching)
            .view({level, options_.branching});
    parents_.index_put_({children}, parents.unsqueeze(1).expand_as(children));
    levels_.push_back({parents, children});
    first += level;
    level *= options_.branching;
  }
}

Synthetic::Rows Synthetic::rows(uint64_t step) const {
  const at::Generator random = generator(options_.seed, kRows, step);
  const int64_t batch = options_.batch, n = options_.features;
  const auto normal = [&](at::IntArrayRef shape) {
    return at::randn(shape, random, at::TensorOptions(at::kFloat));
  };

  const at::Tensor common = normal({batch, options_.correlation_rank});
  const at::Tensor z = at::mm(common, loadings_.t()) +
                       rest_ * normal({batch, n});  // [batch, features], each of deviation 1
  at::Tensor fires = z > thresholds_;
  for (const auto& [parents, children] : levels_) {
    const at::Tensor family =
        fires.index_select(1, children.flatten())
            .view({batch, children.size(0), children.size(1)}) &
        fires.index_select(1, parents).unsqueeze(2);  // [batch, families, branching]
    const at::Tensor lot = at::rand(family.sizes(), random, at::TensorOptions(at::kFloat)) * family;
    const at::Tensor drawn = (lot == lot.amax(2, /*keepdim=*/true)) & family;
    fires.index_copy_(1, children.flatten(), drawn.flatten(1));
  }
  const at::Tensor place = at::nonzero(fires),
                   feature = place.select(1, 1);  // [firings, 2], [firings]
  const at::Tensor strength = magnitudes_.index({feature}) +
                              magnitude_deviations_.index({feature}) * normal({feature.size(0)});
  const at::Tensor a =
      at::zeros({batch, n})
          .index_put_({place.select(1, 0), feature}, strength.relu());  // [batch, features]
  at::Tensor x = at::mm(a, features_) + bias_;                          // [batch, width]
  if (options_.noise > 0) x += options_.noise * normal({batch, options_.width});
  return {x, a};
}

}  // namespace vyx::test
