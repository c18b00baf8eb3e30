#include "sae/objectives/objective.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty_like.h>

#include "core/base/error.h"
#include "sae/objectives/batch.h"

namespace vyx::sae {
namespace {

void allocate(const Parameters& weights, Parameters& gradients) {
  for_each_parameter(
      [](const ParameterKind&, const at::Tensor& weight, at::Tensor& gradient) {
        if (!weight.defined())
          gradient.reset();
        else if (!gradient.defined() || gradient.sizes() != weight.sizes() ||
                 !gradient.is_contiguous())
          gradient = at::empty_like(weight);
      },
      weights, gradients);
}

}  // namespace

ObjectiveResult loss_and_gradients(const Autoencoder& sae, const ObjectiveInput& input,
                                   const ObjectiveOptions& options, Parameters& gradients) {
  const at::NoGradGuard no_gradients;
  const Batch batch(sae, input);
  at::Tensor dead = input.dead;
  if (dead.defined()) {
    if (dead.scalar_type() != at::kBool || dead.dim() != 1 || dead.size(0) != batch.latents)
      fail("objective: found a mask of dead latents that is not [{}] bool", batch.latents);
    dead = dead.contiguous();
  }
  allocate(sae.weights, gradients);
  ObjectiveResult result;
  result.variance = variance_of(batch.target);
  switch (sae.config.architecture) {
    case Architecture::relu:
      relu_objective(batch, options, result, gradients);
      break;
    case Architecture::gated:
      gated_objective(batch, options, result, gradients);
      break;
    case Architecture::topk:
    case Architecture::batch_topk:
      topk_objective(sae.config, batch, dead, options, result, gradients);
      break;
    case Architecture::jump_relu:
      jump_relu_objective(batch, dead, options, result, gradients);
      break;
  }
  return result;
}

}  // namespace vyx::sae
