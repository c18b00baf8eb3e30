// Tensors of normal numbers that are a function of a seed.
#pragma once
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

namespace vyx::test {

inline at::Tensor normal(at::IntArrayRef shape, uint64_t seed, at::ScalarType type = at::kFloat) {
  return at::randn(shape, at::make_generator<at::CPUGeneratorImpl>(seed), at::TensorOptions(type));
}

inline at::Tensor normal_doubles(at::IntArrayRef shape, uint64_t seed) {
  return normal(shape, seed, at::kDouble);
}

}  // namespace vyx::test
