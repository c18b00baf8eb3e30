#include "sae/metrics/latent_statistics.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <fmt/ranges.h>

#include <charconv>
#include <string>

#include "core/base/error.h"
#include "core/formats/tensor_file.h"

namespace vyx::sae {
namespace {

constexpr int64_t kTokensAtOnce = 512;  // whose latents are dense at a time

int64_t parse_count(const SafetensorsMetadata& metadata, const char* key) {
  const auto found = metadata.find(key);
  int64_t count = 0;
  if (found != metadata.end())
    std::from_chars(found->second.data(), found->second.data() + found->second.size(), count);
  return count;
}

}  // namespace

LatentStatistics LatentStatistics::empty(int64_t latents) {
  return {.firings = at::zeros({latents}, at::kLong), .maximum = at::zeros({latents}, at::kFloat)};
}

void add(LatentStatistics& statistics, const at::Tensor& f) {
  if (f.size(0) == 0) return;
  statistics.tokens += f.size(0);
  statistics.firings += (f > 0).sum(0).cpu();
  statistics.maximum = at::maximum(statistics.maximum, f.amax(0).to(at::kCPU, at::kFloat));
}

LatentStatistics measure_latents(const Autoencoder& sae, ActivationSource& source, uint64_t first,
                                 uint64_t batches) {
  const at::NoGradGuard no_grad;
  auto statistics = LatentStatistics::empty(sae.config.latents);
  for (uint64_t step = first; step < first + batches; ++step) {
    const at::Tensor x = source.batch(step);  // [batch, d_in]
    for (const at::Tensor& part : x.split(kTokensAtOnce)) add(statistics, encode(sae, part));
  }
  return statistics;
}

void write_latent_statistics(const std::filesystem::path& path,
                             const LatentStatistics& statistics) {
  write_safetensors(path, {{"firings", statistics.firings}, {"maximum", statistics.maximum}},
                    {{"tokens", std::to_string(statistics.tokens)}});
}

LatentStatistics read_latent_statistics(const std::filesystem::path& path, int64_t latents) {
  if (!std::filesystem::exists(path))
    fail(
        "{}: not found, and it has the latents' largest activations; make it with vyx-sae-eval "
        "--sae {} --activations STORE --latents-out {}",
        path.string(), path.parent_path().string(), path.string());
  const auto [tensors, metadata] = read_safetensors(path);
  const auto tensor = [&](const char* name, at::ScalarType type) {
    const auto found = tensors.find(name);
    if (found == tensors.end())
      fail("{}: found no tensor {}, expected one [{}]; is it a file of --latents-out?",
           path.string(), name, latents);
    const at::Tensor& t = found->second;
    if (t.dim() != 1 || t.size(0) != latents || t.scalar_type() != type)
      fail("{}: found {} as {} [{}], expected {} [{}]; was it measured with another autoencoder?",
           path.string(), name, c10::toString(t.scalar_type()), fmt::join(t.sizes(), ", "),
           c10::toString(type), latents);
    return t;
  };
  LatentStatistics statistics{.tokens = parse_count(metadata, "tokens"),
                              .firings = tensor("firings", at::kLong),
                              .maximum = tensor("maximum", at::kFloat)};
  if (!statistics.maximum.isfinite().all().item<bool>())
    fail("{}: found NaN or infinity in maximum, expected finite numbers", path.string());
  return statistics;
}

}  // namespace vyx::sae
