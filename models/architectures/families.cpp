#include "models/architectures/families.h"

#include <fmt/ranges.h>

#include <array>
#include <vector>

#include "core/base/error.h"
#include "core/base/text.h"

namespace vyx::models {
namespace {

constexpr std::array kFamilies = {&kLlama};
constexpr std::string_view kBlocks = "model.layers.";

}  // namespace

std::span<const Family* const> families() {
  return kFamilies;
}

const Family& family_of(const Gguf& gguf) {
  const std::string architecture = gguf.string("general.architecture");
  std::vector<std::string_view> names;
  for (const Family* family : kFamilies) {
    if (family->name == architecture) return *family;
    names.push_back(family->name);
  }
  fail("{}: found the architecture {}, expected {}; vyx has no other yet", gguf.source(),
       quote(architecture), fmt::join(names, ", "));
}

GgufName gguf_name(const Family& family, const std::string& parameter) {
  std::string_view path = parameter;
  std::string prefix;
  std::span<const TensorName> names = family.tensors;
  if (path.starts_with(kBlocks)) {
    path.remove_prefix(kBlocks.size());
    const size_t end = path.find('.');
    prefix = fmt::format("blk.{}.", path.substr(0, end));
    path.remove_prefix(end + 1);
    names = family.block_tensors;
  }
  const size_t dot = path.rfind('.');
  for (const TensorName& tensor : names) {
    if (tensor.name == path.substr(0, dot))
      return {prefix + std::string(tensor.gguf) + std::string(path.substr(dot)), tensor.transform};
  }
  fail("{}: found no name for the parameter {} in GGUF files of this family", family.name,
       parameter);
}

}  // namespace vyx::models
