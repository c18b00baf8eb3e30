#include <fmt/ranges.h>

#include <variant>

#include "apps/inspect/inspect.h"
#include "core/formats/gguf.h"
#include "core/formats/safetensors.h"

namespace vyx::apps {
namespace {

/// A metadata value on one line: long texts and arrays are cut.
struct ValuePrinter {
  std::string operator()(const std::string& text) const { return first_words(text); }
  std::string operator()(const GgufArray& array) const {
    return std::visit([](const auto& items) { return fmt::format("{} items", items.size()); },
                      array);
  }
  template <class Number>
  std::string operator()(Number number) const {
    return fmt::format("{}", number);
  }
};

/// {"name", "type", "shape"} of a tensor, and its line.
template <class Tensor>
void add_tensor(const Tensor& tensor, Json& list, std::string& text) {
  list.push_back({{"name", tensor.name}, {"type", name_of(tensor.type)}, {"shape", tensor.shape}});
  text += fmt::format("  {:<44} {:<6} [{}]\n", tensor.name, name_of(tensor.type),
                      fmt::join(tensor.shape, ", "));
}

}  // namespace

Inspection inspect_gguf(const std::string& path) {
  const GgufFile file(path);
  if (const GgufValue* kind = file->find("general.architecture"))
    if (const auto* name = std::get_if<std::string>(kind); name && *name == "controlvector")
      return inspect_control_vector(path);
  Json metadata = Json::object(), tensors = Json::array();
  uint64_t parameters = 0;
  std::string text;
  for (const auto& [key, value] : file->metadata()) {
    const std::string shown = std::visit(ValuePrinter{}, value);
    metadata[key] = shown;
    text += fmt::format("  {:<44} {:<6} {}\n", key, type_name(value), shown);
  }
  for (const GgufTensor& tensor : file->tensors()) {
    parameters += tensor.elements();
    add_tensor(tensor, tensors, text);
  }
  return {{{"kind", "gguf"},
           {"gguf_version", file->version()},
           {"parameters", parameters},
           {"metadata", metadata},
           {"tensors", tensors}},
          fmt::format("{}: GGUF version {}, {} tensors, {} parameters\n{}", path, file->version(),
                      tensors.size(), parameters, text)};
}

Inspection inspect_safetensors(const std::string& path) {
  const SafetensorsFile file(path);
  Json tensors = Json::array();
  uint64_t parameters = 0;
  std::string text;
  for (const auto& [key, value] : file->metadata())
    text += fmt::format("  {:<44} {}\n", key, first_words(value));
  for (const SafetensorsTensor& tensor : file->tensors()) {
    parameters += element_count(tensor.shape).value_or(0);
    add_tensor(tensor, tensors, text);
  }
  return {{{"kind", "safetensors"},
           {"parameters", parameters},
           {"metadata", file->metadata()},
           {"tensors", tensors}},
          fmt::format("{}: safetensors, {} tensors, {} numbers\n{}", path, tensors.size(),
                      parameters, text)};
}

}  // namespace vyx::apps
