// What a module keeps from one run to the next: attributes that forward assigns, and buffers that
// it writes into.
#pragma once
#include <ATen/core/ivalue.h>
#include <torch/csrc/jit/api/module.h>

#include <cstdint>
#include <vector>

namespace vyx {

/// The state of a module and its submodules, as it was when this was made: tensors, numbers, texts,
/// and lists, tuples and dicts of them; no parameters, and no objects of other classes. From then
/// on the module has tensors of its own for it, so that its runs reach no other module.
class ModuleState {
 public:
  explicit ModuleState(const torch::jit::Module& module);

  /// Puts the module back.
  void restore();
  /// Whether runs have changed anything since. Of a buffer of more than 65,536 values a change
  /// counts when its operator says that it writes there.
  bool changed() const;

 private:
  struct Slot {
    torch::jit::ObjectPtr object;
    size_t index = 0;
    c10::IValue initial;     // as it was
    c10::IValue given = {};  // what the module was given last
    uint32_t version = 0;    // of a tensor that was given
  };
  std::vector<Slot> slots_;
};

}  // namespace vyx
