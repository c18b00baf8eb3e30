// TorchScript says in a page what fits on one line. Internal to core.
#pragma once
#include <exception>
#include <string>

namespace vyx {

/// The reason that an error of libtorch gives, without traceback, source excerpts and backtrace.
std::string reason_of(const std::exception& error);

}  // namespace vyx
