// The mean of the differences of pairs.
#pragma once
#include "steering/directions/methods.h"

namespace vyx::steering {

/// The mean of D, with its magnitude and sign (CAA, Rimsky et al. 2023, arXiv:2312.06681).
/// Degenerate where the differences cancel out.
Fit mean_difference(const Differences& differences);

}  // namespace vyx::steering
