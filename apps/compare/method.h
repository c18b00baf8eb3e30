// The methods that are compared: a way to change activations at one site, by a dose.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "apps/compare/dosing.h"
#include "core/edits/edit.h"
#include "sae/autoencoder/autoencoder.h"

namespace vyx::compare {

enum class Family {
  direction,  // y = x + dose · median norm · v̂: one vector for every token. Doses are in units of
              // the activations' median norm
  latent,  // latents are set to dose · their largest activation, the error kept: y = x + Σ (f′_i −
           // f_i)·W_dec,i
};
// Names of methods that the comparison asks for.
inline constexpr const char* kPcaCenter = "pca-center";
inline constexpr const char* kMean = "mean";
inline constexpr const char* kRandomDirection = "random direction";  // the control
inline constexpr const char* kSingleLatent = "best single latent";
inline constexpr const char* kBestLatents = "best k latents";

std::string_view name_of(Family family);  // "direction"
std::string_view dose_unit(Family family);
double first_dose(Family family);  // where the search for a dose begins, in that unit

enum class Role {
  method,
  random_control,   // a control: a row of the comparison that has no pass rules and no nulls
  foreign_control,  // another concept's vector
};

struct Method {
  std::string name;  // "pca-center"
  Family family = Family::direction;
  at::Tensor direction;  // of a direction: v̂ [d] float64, of norm 1; undefined for latents
  std::vector<int64_t> latents;  // that it sets; empty for a direction
  std::function<Edit(double dose)> edit;
  Role role = Role::method;
  bool finds_line = false;         // as steering::Method's sign_is_voted
  std::optional<DosePoint> known;  // of its side effect, on the sample of the neutral text
};

/// Throws Error naming the method for a vector that is zero or not finite.
Method direction_method(std::string name, const at::Tensor& vector, double median_norm);

/// `largest` [latents]: each latent's largest activation, positive for those of `latents`.
Method latent_method(std::string name, const sae::Autoencoder& sae, std::vector<int64_t> latents,
                     const at::Tensor& largest);

}  // namespace vyx::compare
