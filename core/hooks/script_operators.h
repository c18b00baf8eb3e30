// Which operators an archive's code may use before anybody has read it. Internal to core.
#pragma once
#include <string_view>

namespace vyx {

/// Whether the operator `space`::`name` reaches nothing but the values that it is given: no files,
/// no network, no Python, no memory beyond its tensors. By list: namespaces that are not known, and
/// operators of LibTorch's own use, are not.
bool is_harmless_operator(std::string_view space, std::string_view name);

/// Whether x.`name`, of a value whose type is not known, may be such an operator only: a method of
/// a module is none, and may have any other name.
bool is_harmless_member(std::string_view name);

}  // namespace vyx
