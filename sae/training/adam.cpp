#include "sae/training/adam.h"

#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/base/error.h"
#include "sae/kernels/adam_kernel.h"
#include "sae/kernels/sparse_kernels.h"
#include "sae/kernels/tiles.h"

namespace vyx::sae {
namespace {

constexpr int64_t kChunk = 1 << 14;  // elements of a tile

struct Part {
  const ParameterKind& kind;
  at::Tensor weight, gradient, first, second;
};

std::vector<Part> parts_of(const Adam& adam, const Parameters& weights,
                           const Parameters& gradients) {
  std::vector<Part> parts;
  for_each_parameter(
      [&](const ParameterKind& kind, const at::Tensor& weight, const at::Tensor& gradient,
          const at::Tensor& first, const at::Tensor& second) {
        const auto require = [&](const at::Tensor& tensor, const char* what) {
          if (tensor.defined() != weight.defined() ||
              (weight.defined() && (tensor.sizes() != weight.sizes() || !tensor.is_contiguous())))
            fail(
                "Adam: found {} for {} that are not the weights', expected tensors of the same "
                "names and shapes",
                what, kind.name);
        };
        require(gradient, "gradients");
        require(first, "moments");
        require(second, "moments");
        if (weight.defined()) parts.push_back({kind, weight, gradient, first, second});
      },
      weights, gradients, adam.first, adam.second);
  return parts;
}

/// Σ g² of a matrix without each row's part along the row of weights, whose share of the row goes
/// to `along` [rows].
double remove_along(const Part& part, std::vector<float>& along) {
  const int64_t rows = part.weight.size(0), d = part.weight.size(1);
  const float *w = part.weight.const_data_ptr<float>(), *g = part.gradient.const_data_ptr<float>();
  along.resize(rows);
  return parallel_sum(rows, tiles_of(kChunk, d), [&](int64_t begin, int64_t end) {
    double sum = 0;
    for (int64_t r = begin; r < end; ++r) {
      const double length = dot(w + r * d, w + r * d, d), common = dot(w + r * d, g + r * d, d);
      along[r] = length > 0 ? float(common / length) : 0;
      sum +=
          std::max(0.0, dot(g + r * d, g + r * d, d) - (length > 0 ? common * common / length : 0));
    }
    return sum;
  });
}

void step_rows_to_unit_norm(const Part& part, const std::vector<float>& along,
                            const AdamStep& step) {
  const int64_t d = part.weight.size(1);
  auto *w = part.weight.mutable_data_ptr<float>(), *m = part.first.mutable_data_ptr<float>(),
       *v = part.second.mutable_data_ptr<float>();
  const float* g = part.gradient.const_data_ptr<float>();
  parallel_ranges(part.weight.size(0), tiles_of(kChunk, d), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      adam_step(w + r * d, g + r * d, m + r * d, v + r * d, d, along[r], step);
      const double norm = std::sqrt(dot(w + r * d, w + r * d, d));
      if (norm == 0) continue;
      const auto factor = float(1 / norm);
      for (int64_t c = 0; c < d; ++c) w[r * d + c] *= factor;
    }
  });
}

/// The gradient of a parameter's logarithm, in the place of its own.
void take_logarithm(const Part& part) {
  const float* w = part.weight.const_data_ptr<float>();
  auto* g = part.gradient.mutable_data_ptr<float>();
  for (int64_t i = 0; i < part.weight.numel(); ++i) g[i] *= w[i];
}

void step_logarithms(const Part& part, const AdamStep& step) {
  const int64_t count = part.weight.numel();
  std::vector<float> moved(count);  // how far each logarithm goes
  adam_step(moved.data(), part.gradient.const_data_ptr<float>(),
            part.first.mutable_data_ptr<float>(), part.second.mutable_data_ptr<float>(), count, 0,
            step);
  auto* w = part.weight.mutable_data_ptr<float>();
  for (int64_t i = 0; i < count; ++i) w[i] = float(w[i] * std::exp(double(moved[i])));
}

}  // namespace

Adam make_adam(const Parameters& weights) {
  const auto zeros = [&] {
    return transformed(weights, [](const at::Tensor& weight) { return at::zeros_like(weight); });
  };
  return {.first = zeros(), .second = zeros()};
}

double update(Adam& adam, Parameters& weights, Parameters& gradients, double learning_rate,
              const AdamOptions& options) {
  const std::vector<Part> parts = parts_of(adam, weights, gradients);
  const auto is_unit = [&](const Part& part) {
    return options.unit_norm_decoder && part.kind.member == &Parameters::decoder;
  };
  std::vector<float> along;  // [latents]
  double squares = 0;
  for (const Part& part : parts) {
    if (part.kind.positive) take_logarithm(part);
    const float* g = part.gradient.const_data_ptr<float>();
    squares += is_unit(part)
                   ? remove_along(part, along)
                   : parallel_sum(part.gradient.numel(), kChunk, [&](int64_t begin, int64_t end) {
                       return dot(g + begin, g + begin, end - begin);
                     });
  }
  const double norm = std::sqrt(squares);
  ++adam.steps;
  const auto steps = double(adam.steps);
  const AdamStep step{
      .beta1 = float(options.beta1),
      .beta2 = float(options.beta2),
      .epsilon = float(options.epsilon),
      .clip = options.clip_norm > 0 ? float(std::min(1.0, options.clip_norm / (norm + 1e-6))) : 1,
      .rate = float(learning_rate / (1 - std::pow(options.beta1, steps))),
      .second_factor = float(1 / std::sqrt(1 - std::pow(options.beta2, steps)))};
  for (const Part& part : parts) {
    if (is_unit(part)) {
      step_rows_to_unit_norm(part, along, step);
      continue;
    }
    if (part.kind.positive) {
      AdamStep logarithms = step;
      logarithms.rate *= float(options.logarithm_rate);
      step_logarithms(part, logarithms);
      continue;
    }
    auto *w = part.weight.mutable_data_ptr<float>(), *m = part.first.mutable_data_ptr<float>(),
         *v = part.second.mutable_data_ptr<float>();
    const float* g = part.gradient.const_data_ptr<float>();
    parallel_ranges(part.weight.numel(), kChunk, [&](int64_t begin, int64_t end) {
      adam_step(w + begin, g + begin, m + begin, v + begin, end - begin, 0, step);
    });
  }
  return norm;
}

}  // namespace vyx::sae
