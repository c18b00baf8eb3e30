#include "apps/ablation/reference.h"

#include "core/base/error.h"
#include "core/base/text.h"

namespace vyx::ablation {
namespace {

bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}
bool is_inner(char c) {
  return is_letter(c) || (c >= '0' && c <= '9') || c == '-';
}

// The length of the name that `text` begins with, up to its closing brace; 0 when it is no name.
size_t name_length(std::string_view text) {
  bool first = true;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '}') return first ? 0 : i;
    if (first ? !is_letter(c) && !(i > 0 && is_inner(c)) : !is_inner(c) && c != '.') return 0;
    first = c == '.';
  }
  return 0;
}

// Calls plain(text) and reference(name) for the parts of `text`.
template <class Plain, class Reference>
void split(std::string_view text, const Plain& plain, const Reference& reference) {
  size_t begin = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '{') continue;
    const size_t length = name_length(text.substr(i + 1));
    if (length == 0) continue;
    plain(text.substr(begin, i - begin));
    reference(std::string(text.substr(i + 1, length)));
    i += length + 1;
    begin = i + 1;
  }
  plain(text.substr(begin));
}

OrderedJson substitute_text(const std::string& text, const Lookup& lookup, std::string_view place) {
  if (text.starts_with('{'))
    if (const size_t length = name_length(std::string_view(text).substr(1));
        length > 0 && length + 2 == text.size())
      return lookup(text.substr(1, length));
  std::string out;
  split(
      text, [&](std::string_view plain) { out += plain; },
      [&](const std::string& name) {
        const OrderedJson value = lookup(name);
        if (value.is_null())
          fail(
              "{}: {}: {} has no value in this cell; it can only be left out where it stands alone",
              place, quote(text), name);
        if (value.is_object())
          fail("{}: {}: {} is a table; name one of its members", place, quote(text), name);
        out += as_text(value);
      });
  return out;
}

}  // namespace

OrderedJson substitute(const OrderedJson& value, const Lookup& lookup, std::string_view place) {
  if (value.is_string()) return substitute_text(value.get<std::string>(), lookup, place);
  if (value.is_array()) {
    OrderedJson list = OrderedJson::array();
    for (const OrderedJson& element : value)
      if (OrderedJson replaced = substitute(element, lookup, place); !replaced.is_null())
        list.push_back(std::move(replaced));
    return list;
  }
  if (value.is_object()) {
    OrderedJson object = OrderedJson::object();
    for (const auto& [key, element] : value.items())
      if (OrderedJson replaced = substitute(element, lookup, place); !replaced.is_null())
        object[key] = std::move(replaced);
    return object;
  }
  return value;
}

std::vector<std::string> references(const OrderedJson& value) {
  std::vector<std::string> names;
  if (value.is_string())
    split(
        value.get_ref<const std::string&>(), [](std::string_view) {},
        [&](std::string name) { names.push_back(std::move(name)); });
  if (value.is_structured())
    for (const OrderedJson& element : value)
      for (std::string& name : references(element)) names.push_back(std::move(name));
  return names;
}

std::string as_text(const OrderedJson& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number_float()) return fmt::format("{}", value.get<double>());
  return value.dump();
}

}  // namespace vyx::ablation
