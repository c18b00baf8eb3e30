// Reads activations (activation.h): what a module computes at some sites, in runs of one's own.
//
// Another thread may run the same module at the same time, and a hook may run it inside of a run:
// what they compute is theirs. A run that throws leaves neither a hook nor a value behind.
#pragma once
#include <ATen/core/Tensor.h>

#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/hooks/hooked_module.h"

namespace vyx {

/// Calls `run` with `hook` at `sites`, for the runs of `module` that `run` starts on this thread
/// and what they fork. Runs of other threads do not see the hook, nor do those that a hook starts.
void run_hooked(HookedModule& module, std::span<const Site> sites, Hook hook,
                const std::function<void()>& run);

/// What is kept of a value as it passes its site. The module may go on to write into its tensors in
/// place: copy what must stay. An undefined tensor: nothing is kept of this call.
using Keep = std::function<at::Tensor(const Site& site, const c10::IValue& value)>;

/// Runs `run` and returns what `keep` made of the calls of each of `sites`, in order of the calls.
std::vector<std::vector<at::Tensor>> read_calls(HookedModule& module, std::span<const Site> sites,
                                                const Keep& keep, const std::function<void()>& run);

/// As read_calls(), for sites that are called once: a tensor per site. Throws Error for a site that
/// is never called, or more than once.
std::vector<at::Tensor> read_once(HookedModule& module, std::span<const Site> sites,
                                  const Keep& keep, const std::function<void()>& run);

/// The only one of a site's calls. Throws Error when there is none, or another.
at::Tensor only_call(const Site& site, std::span<const at::Tensor> calls);

/// Runs `method` and returns the activations at every site that `pattern` chooses, by site name, in
/// order of their calls. The tensors are those that went through the module, not copies. Throws
/// Error for a site that was never reached.
std::map<std::string, std::vector<at::Tensor>> capture(HookedModule& module,
                                                       std::string_view pattern, Arguments args,
                                                       const std::string& method = "forward");

// What is expected of a value; each throws Error naming the site. The feature axis is the last.

/// A tensor of any shape and type.
at::Tensor tensor_at(const Site& site, const c10::IValue& value);
/// An activation [.., d] of floating point, of at most kMostDimensions.
at::Tensor activation_at(const Site& site, const c10::IValue& value);
/// An activation [batch, seq, d] of floating point, one row per token of `tokens`: [batch, seq].
at::Tensor activation_at(const Site& site, const c10::IValue& value, at::IntArrayRef tokens);

/// x as it is now: a copy in float32 on the CPU.
at::Tensor copy_of(const at::Tensor& x);

}  // namespace vyx
