#include "sae/files/hook_names.h"

#include <fmt/format.h>

#include <array>
#include <string_view>

namespace vyx::sae {
namespace {

// What follows the number of the block, and how vyx names its module and port. Only places that
// hold the same numbers in both: TransformerLens's hook_normalized lies before the norm's gain,
// every site behind it; hook_mlp_in and hook_attn_in lie before the norm. In blocks whose modules
// are followed by a norm (NormPlacement::after, around), hook_mlp_out and hook_attn_out lie behind
// that one.
struct Names {
  std::string_view hook, site;
};
constexpr std::array<Names, 5> kNames = {{{"hook_resid_post", ":output"},
                                          {"hook_resid_pre", ":input"},
                                          {"hook_mlp_out", ".mlp:output"},
                                          {"hook_attn_out", ".self_attn:output"},
                                          {"attn.hook_z", ".self_attn.o_proj:input"}}};
constexpr std::string_view kBlocks = "blocks.", kLayers = "model.layers.";

// `name` as prefix, digits and the rest; no digits: not of that form.
struct Parts {
  std::string_view number, rest;
};
Parts split(std::string_view name, std::string_view prefix) {
  if (!name.starts_with(prefix)) return {};
  name.remove_prefix(prefix.size());
  const size_t digits = std::min(name.find_first_not_of("0123456789"), name.size());
  return {name.substr(0, digits), name.substr(digits)};
}

}  // namespace

std::string site_of_hook(const std::string& hook) {
  const auto [number, rest] = split(hook, kBlocks);
  if (number.empty() || !rest.starts_with('.')) return "";
  for (const Names& names : kNames)
    if (rest.substr(1) == names.hook) return fmt::format("{}{}{}", kLayers, number, names.site);
  return "";
}

std::string hook_of_site(const std::string& site) {
  const auto [number, rest] = split(site, kLayers);
  if (number.empty()) return "";
  for (const Names& names : kNames)
    if (rest == names.site) return fmt::format("{}{}.{}", kBlocks, number, names.hook);
  return "";
}

}  // namespace vyx::sae
