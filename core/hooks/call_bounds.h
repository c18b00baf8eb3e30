// How often a method may call another, read from the graphs. Internal to core.
#pragma once
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/ir/ir.h>

#include <unordered_map>

namespace vyx {

/// Bounds on calls in a module that unshare() made, where a function belongs to one object. Not
/// thread-safe.
class CallBounds {
 public:
  /// At most how often a call of `entry` calls `callee`: 0, 1, or 2 for "perhaps more than once".
  int at_most(const torch::jit::Function& entry, const torch::jit::Function& callee);

 private:
  struct Calls {
    // 1 or 2; a function that is not here is not called.
    std::unordered_map<const torch::jit::Function*, int> at_most;
    bool unknown = false;  // something is called, but not known what

    void add(const Calls& other, int times);
    void take_larger(const Calls& other);
  };
  const Calls& calls_of(torch::jit::Function& function);
  Calls calls_in(torch::jit::Block& block);
  Calls calls_by(torch::jit::Node& node);

  std::unordered_map<const torch::jit::Function*, Calls> known_;
};

}  // namespace vyx
