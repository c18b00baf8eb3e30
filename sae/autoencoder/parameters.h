// The parameters of an autoencoder and the one list of them: what each is called, its shape and
// which architectures have it. Whatever is done to all of them goes over this list: weights,
// gradients, an optimiser's moments, checkpoints, files, exported modules, devices.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "sae/autoencoder/architecture.h"

namespace vyx::sae {

struct AutoencoderConfig;

/// One tensor of each kind; undefined where the architecture has none. A latent's encoder and
/// decoder rows are contiguous: sparse kernels read and write rows.
struct Parameters {
  at::Tensor encoder;          // W_enc [latents, d_in]
  at::Tensor encoder_bias;     // b_enc [latents]; gated: b_gate
  at::Tensor decoder;          // W_dec [latents, d_out]
  at::Tensor decoder_bias;     // b_dec [d_out]
  at::Tensor magnitude_scale;  // gated: r_mag [latents]
  at::Tensor magnitude_bias;   // gated: b_mag [latents]
  at::Tensor threshold;        // jump_relu: θ [latents], positive
  at::Tensor skip;             // W_skip [d_out, d_in]

  /// Calls visit(name, tensor) for each that is defined, in the order of the list.
  template <class Visit>
  void visit(Visit&& visit) const;
};

enum class Extent { d_in, d_out, latents };

/// An entry of the list.
struct ParameterKind {
  const char* name;
  at::Tensor Parameters::*member;
  Extent rows;
  std::optional<Extent> columns = {};                // none: a vector
  bool ArchitectureTraits::*architecture = nullptr;  // that have it; null: all have
  bool optional = false;                             // an autoencoder may be without
  bool positive = false;                             // trained as its logarithm
};
inline constexpr ParameterKind kParameters[] = {
    {"W_enc", &Parameters::encoder, Extent::latents, Extent::d_in},
    {"b_enc", &Parameters::encoder_bias, Extent::latents},
    {"W_dec", &Parameters::decoder, Extent::latents, Extent::d_out},
    {"b_dec", &Parameters::decoder_bias, Extent::d_out},
    {.name = "r_mag",
     .member = &Parameters::magnitude_scale,
     .rows = Extent::latents,
     .architecture = &ArchitectureTraits::has_gate},
    {.name = "b_mag",
     .member = &Parameters::magnitude_bias,
     .rows = Extent::latents,
     .architecture = &ArchitectureTraits::has_gate},
    {.name = "threshold",
     .member = &Parameters::threshold,
     .rows = Extent::latents,
     .architecture = &ArchitectureTraits::has_thresholds,
     .positive = true},
    {.name = "W_skip",
     .member = &Parameters::skip,
     .rows = Extent::d_out,
     .columns = Extent::d_in,
     .optional = true}};

/// Calls visit(kind, tensor, …) for each kind of parameter, with its tensor in each of the sets:
/// undefined in a set that has none.
template <class Visit, class... Sets>
void for_each_parameter(Visit&& visit, Sets&&... sets) {
  for (const ParameterKind& kind : kParameters) visit(kind, (sets.*kind.member)...);
}

template <class Visit>
void Parameters::visit(Visit&& visit) const {
  for_each_parameter(
      [&](const ParameterKind& kind, const at::Tensor& tensor) {
        if (tensor.defined()) visit(kind.name, tensor);
      },
      *this);
}

/// change(tensor) for each that `from` has.
template <class Change>
Parameters transformed(const Parameters& from, Change&& change) {
  Parameters result;
  for_each_parameter(
      [&](const ParameterKind&, const at::Tensor& tensor, at::Tensor& changed) {
        if (tensor.defined()) changed = change(tensor);
      },
      from, result);
  return result;
}

/// Whether autoencoders of this architecture have it, or may have.
bool belongs_to(const ParameterKind& kind, Architecture architecture);
std::vector<int64_t> shape_of(const ParameterKind& kind, const AutoencoderConfig& config);
/// Whether it has a row (or an element) for each latent.
inline bool is_per_latent(const ParameterKind& kind) {
  return kind.rows == Extent::latents;
}
/// As SAELens calls it, in files and in exported modules: a gated autoencoder's b_enc is "b_gate".
const char* published_name(const ParameterKind& kind, Architecture architecture);

}  // namespace vyx::sae
