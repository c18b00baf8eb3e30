#include "sae/autoencoder/parameters.h"

#include "sae/autoencoder/autoencoder.h"

namespace vyx::sae {
namespace {

int64_t size_of(Extent extent, const AutoencoderConfig& config) {
  switch (extent) {
    case Extent::d_in:
      return config.d_in;
    case Extent::d_out:
      return config.d_out;
    case Extent::latents:
      break;
  }
  return config.latents;
}

}  // namespace

bool belongs_to(const ParameterKind& kind, Architecture architecture) {
  return !kind.architecture || traits_of(architecture).*kind.architecture;
}

std::vector<int64_t> shape_of(const ParameterKind& kind, const AutoencoderConfig& config) {
  std::vector<int64_t> shape{size_of(kind.rows, config)};
  if (kind.columns) shape.push_back(size_of(*kind.columns, config));
  return shape;
}

const char* published_name(const ParameterKind& kind, Architecture architecture) {
  const bool gate = kind.member == &Parameters::encoder_bias && traits_of(architecture).has_gate;
  return gate ? "b_gate" : kind.name;
}

}  // namespace vyx::sae
