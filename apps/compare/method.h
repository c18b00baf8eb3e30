// The methods that are compared: a way to change activations at one site, by a dose.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "core/edits/edit.h"
#include "sae/autoencoder/autoencoder.h"
#include "steering/directions/methods.h"

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
  random_control,   // a control: a row of the comparison that has no pass rules and does not count
                    // for the largest effect
  foreign_control,  // another concept's vector
};

struct Method {
  std::string name;  // "pca-center"
  Family family = Family::direction;
  at::Tensor direction;  // of a direction: v̂ [d] float64, of norm 1; undefined for latents
  std::vector<int64_t> latents;  // that it sets; empty for a direction
  std::function<Edit(double dose)> edit;
  Role role = Role::method;
  bool ignores_sides = false;  // as steering::Method: shuffled labels say nothing about it
};

/// Throws Error naming the method for a vector that is zero or not finite.
Method direction_method(std::string name, const at::Tensor& vector, double median_norm);

/// `largest` [latents]: each latent's largest activation, positive for those of `latents`.
Method latent_method(std::string name, const sae::Autoencoder& sae, std::vector<int64_t> latents,
                     const at::Tensor& largest);

/// The directions of all methods of steering/directions/methods.h, of pairs of the extraction
/// split; a method that has settings chooses them on the selection pairs. `inputs.median_norm` is
/// the unit of their doses. A method that is degenerate on these pairs is left out and
/// `on_degenerate` is told why.
std::vector<Method> extract_directions(
    const steering::MethodInput& inputs,
    const std::function<void(const std::string&)>& on_degenerate = {});

/// Vectors [count, d] without a concept: isotropic, or with the covariance of `rows` [n, d] (Σ
/// g_i·(x_i − x̄), g normal).
at::Tensor isotropic_vectors(int64_t count, int64_t width, uint64_t seed);
at::Tensor covariance_matched_vectors(int64_t count, const at::Tensor& rows, uint64_t seed);

/// The autoencoder with each encoder and decoder row replaced by a random one of the same norm;
/// biases and thresholds stay: a dictionary that has learnt nothing.
sae::Autoencoder frozen_random(const sae::Autoencoder& sae, uint64_t seed);

}  // namespace vyx::compare
