#include "sae/edits/settable_latents.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <string>
#include <utility>

namespace vyx::sae {
namespace {

bool is_set(const LatentChange& change) {
  return change.kind == LatentChange::Kind::set;
}

std::string gate_literal(const Gate& gate) {
  return fmt::format("[{:.17e}, {:.17e}, {:.17e}, {:.17e}]", gate.constant, gate.linear,
                     gate.rectified, gate.step);
}

/// The methods for the first `settable` changes, whose terms are the pairs 2k, 2k + 1 of
/// edits[number].
std::string source(const std::vector<LatentChange>& changes, size_t settable, const Edit& edit,
                   size_t number) {
  std::vector<std::string> places, gates;
  std::vector<int64_t> latents;
  for (size_t k = 0; k < settable; ++k) {
    latents.push_back(changes[k].latent);
    places.push_back(fmt::format("{}: {}", changes[k].latent, k));
    gates.push_back(gate_literal(edit.terms()[2 * k + 1].gate));
  }
  return fmt::format(
      "def _vyx_place_of_latent(self, i: int) -> int:\n"
      "    places = {{{places}}}\n"
      "    assert i in places, \"latent \" + str(i) + \" cannot be set in this model, which has "
      "{latents}\"\n"
      "    return places[i]\n\n"
      "def set_latent(self, i: int, value: float) -> None:\n"
      "    place = self._vyx_place_of_latent(i)\n"
      "    gates = [{gates}]\n"
      "    self.set_gate({number}, 2 * place, [value, 0.0, 0.0, 0.0])\n"
      "    self.set_gate({number}, 2 * place + 1, gates[place])\n\n"
      "def clear_latent(self, i: int) -> None:\n"
      "    place = self._vyx_place_of_latent(i)\n"
      "    self.set_gate({number}, 2 * place, [0.0, 0.0, 0.0, 0.0])\n"
      "    self.set_gate({number}, 2 * place + 1, [0.0, 0.0, 0.0, 0.0])\n",
      fmt::arg("places", fmt::join(places, ", ")), fmt::arg("latents", fmt::join(latents, ", ")),
      fmt::arg("gates", fmt::join(gates, ", ")), fmt::arg("number", number));
}

}  // namespace

torch::jit::Module bake_latents(const torch::jit::Module& module, std::vector<SiteEdit> others,
                                const Site& site, const Autoencoder& sae,
                                std::span<const LatentChange> changes,
                                const LatentEditOptions& options, double coefficient) {
  std::vector<LatentChange> ordered(changes.begin(), changes.end());
  const auto rest = std::stable_partition(ordered.begin(), ordered.end(), is_set);
  const auto settable = static_cast<size_t>(rest - ordered.begin());
  std::vector<LatentChange> placeholders = ordered;  // a gate of 0 would have no place to be set in
  for (size_t k = 0; k < settable; ++k) placeholders[k].value = 1;
  const Edit edit = edit_latents(sae, placeholders, options);
  const size_t number = others.size();
  others.push_back({site, edit});
  if (settable == 0) return bake(module, others, coefficient);
  torch::jit::Module baked = bake(module, others, coefficient, {number});
  baked.define(source(ordered, settable, edit, number));
  for (size_t k = 0; k < settable; ++k)
    baked.run_method("set_latent", ordered[k].latent, ordered[k].value);
  return baked;
}

}  // namespace vyx::sae
