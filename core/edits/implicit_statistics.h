// How constant what an edit adds is: a control vector adds the same to every token, an ablation or
// a latent does not.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>

namespace vyx {

struct ImplicitStatistics {
  int64_t tokens = 0;
  at::Tensor mean;       // E v [d] float32
  at::Tensor norms;      // ‖v‖ [tokens] float32
  at::Tensor cosines;    // v·E v / (‖v‖‖E v‖) [tokens] float32; 0 where either is 0
  double mean_norm = 0;  // ‖E v‖
  double rms_norm = 0;   // √E‖v‖²
  double spread = 0;  // 1 − ‖E v‖² / E‖v‖²: the share of Σ‖v‖² that is not the mean's; 0 =
                      // constant; 0 when v is 0 everywhere
  double mean_cosine = 0;  // of `cosines`, over tokens with ‖v‖ > 0
};

/// Of implicit vectors v [tokens, d], summed in float64. Throws Error for no token, another shape,
/// or values that are not finite.
ImplicitStatistics implicit_statistics(const at::Tensor& v);

}  // namespace vyx
