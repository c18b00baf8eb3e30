// Adam on an autoencoder's parameters, in one pass over memory (Kingma and Ba 2015,
// arXiv:1412.6980), with what SAEs ask of their decoders.
#pragma once
#include <cstdint>

#include "sae/autoencoder/autoencoder.h"

namespace vyx::sae {

struct AdamOptions {
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
  double clip_norm = 1;  // of all gradients together; 0: no clipping
  /// Decoder rows of unit norm: the part of the gradient along a row is taken out before the step,
  /// rows are normalised after it.
  bool unit_norm_decoder = false;
  double logarithm_rate = 1;  // times the learning rate, for parameters trained as logarithms
};

struct Adam {
  Parameters first, second;  // moments, shaped as the weights
  int64_t steps = 0;
};

/// Moments of zero for these weights.
Adam make_adam(const Parameters& weights);

/// One step. Returns the gradients' norm before clipping. The result does not depend on the number
/// of threads. Gradients are used up.
double update(Adam& adam, Parameters& weights, Parameters& gradients, double learning_rate,
              const AdamOptions& options);

}  // namespace vyx::sae
