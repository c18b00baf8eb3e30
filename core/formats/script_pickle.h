// The pickles of a TorchScript archive, data.pkl and constants.pkl: checked, not run. LibTorch's
// reader of them believes what they say of sizes, and recurses without bound.
#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/formats/zip.h"

namespace vyx {

/// Throws Error naming the archive unless `folder``part`.pkl of it holds nothing but plain values,
/// tensors that lie in the records `folder``part`/…, and objects of the archive's own classes, each
/// within bounds.
void check_script_pickle(const ZipArchive& zip, const std::string& folder, const std::string& part);

/// The same of the record `folder``name`, such as code/__torch__.py.debug_pkl, without tensors:
/// LibTorch reads it when the code that it belongs to fails.
void check_debug_pickle(const ZipArchive& zip, const std::string& folder, const std::string& name);

/// An object of a module's tree, with those of its attributes that are tensors or objects.
struct ScriptObject {
  struct Tensor {
    std::string name, type;  // "weight", "Float"
    std::vector<int64_t> shape;
  };
  struct Member {
    std::string name;
    size_t object = 0;  // in the list
    size_t before = 0;  // how many of `tensors` stand before it
  };
  std::string type;  // "__torch__.torch.nn.modules.linear.Linear"
  std::vector<Tensor> tensors;
  std::vector<Member> members;
  bool opaque =
      false;  // it has a state of its own making (__getstate__): what is in it is not known
};

/// The objects of data.pkl, checked as above; the first is the root.
std::vector<ScriptObject> read_script_objects(const ZipArchive& zip, const std::string& folder);

}  // namespace vyx
