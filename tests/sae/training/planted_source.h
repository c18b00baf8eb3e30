// Activations with known features, made as they are asked for: sums of a few of `features` random
// directions.
#pragma once
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Functions.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>

#include "core/base/error.h"
#include "core/base/random.h"
#include "sae/store/activation_source.h"

namespace vyx::sae::test {

class PlantedSource final : public ActivationSource {
 public:
  struct Options {
    int64_t width = 16, features = 24, batch = 64;
    double active = 0.1;  // the share of features in a token
    uint64_t seed = 0;
    uint64_t nan_at = std::numeric_limits<uint64_t>::max();  // a step whose batch holds a NaN,
                                                             // unnoticed by the source
  };

  explicit PlantedSource(const Options& options) : options_(options) {
    const at::Tensor directions =
        at::randn({options.features, options.width}, generator(1));  // [features, width]
    directions_ = directions / directions.norm(2, {1}, true);
    norms_ = norms_of(make(2), "planted");
  }

  at::Tensor batch(uint64_t step) override {
    at::Tensor x = make(3 + step);  // [batch, width]
    if (step == options_.nan_at) x[0][0] = std::nan("");
    ++asked_;
    return x;
  }
  int64_t width() const override { return options_.width; }
  uint64_t rows() const override { return 1000; }
  double mean_norm() const { return norms_.mean_norm; }
  std::vector<SiteNorms> norms() const override { return {norms_}; }
  Json provenance() const override { return {{"model", "planted"}, {"seed", options_.seed}}; }

  const at::Tensor& directions() const { return directions_; }  // [features, width], of norm 1
  int asked() const { return asked_; }

 private:
  at::Generator generator(uint64_t index) const {
    return at::detail::createCPUGenerator(random_bits(options_.seed, 1, index));
  }
  at::Tensor make(uint64_t index) const {
    const at::Generator random = generator(index);
    const at::Tensor on = at::rand({options_.batch, options_.features}, random) <
                          options_.active;  // [batch, features]
    return at::matmul((at::rand({options_.batch, options_.features}, random) + 0.5) * on,
                      directions_);
  }

  Options options_;
  at::Tensor directions_;
  SiteNorms norms_;
  int asked_ = 0;
};

}  // namespace vyx::sae::test
