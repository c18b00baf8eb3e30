// What is wrong with a run's last numbers, so that they are not printed alone.
#pragma once
#include <string>
#include <vector>

#include "core/base/json_guard.h"

namespace vyx::sae {

/// Of the last line of the log and the run's options (to_json), a line each: what
/// metrics/degenerate.h finds, and a λ that has saturated. There the loss is above that of no
/// latent at all, so that more λ raises the error and does not lower L0.
std::vector<std::string> training_warnings(const Json& metrics, const Json& options);

}  // namespace vyx::sae
