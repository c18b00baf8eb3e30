#include "core/edits/bake.h"

#include <fmt/ranges.h>
#include <torch/csrc/jit/api/compilation_unit.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <sstream>
#include <utility>

#include "core/base/error.h"
#include "core/base/nearest.h"
#include "core/edits/baked_edit.h"
#include "core/edits/site_rewriter.h"
#include "core/hooks/script_error.h"
#include "core/hooks/taps.h"
#include "core/hooks/unshare.h"

namespace vyx {
namespace {

using torch::jit::Module;

constexpr const char* kSetter = "set_coefficient";
constexpr const char* kGateSetter = "set_gate";

/// Throws Error for an object that is loaded by code of its own: what bake() adds would stay unset,
/// and the archive would not load.
void require_plain_state(const Module& object, const Site& site) {
  if (!object.find_method("__setstate__")) return;
  fail(
      "{}: {} has a method __setstate__, which would not set what bake() adds, so that the archive "
      "could not be loaded; hook the site instead, or choose one outside of it",
      site.name(), object.type()->name()->name());
}

/// TorchScript for the submodule at `path`; its names need not be identifiers ("0" in a list).
/// Throws Error for a submodule that is reached through an interface, on which nothing can be
/// called but the interface's methods, and for one with a state of its own (or within such a one).
std::string expression_of(const Module& root, const Site& site) {
  std::string expression = "self";
  Module parent = root;
  require_plain_state(parent, site);
  std::istringstream names(site.path);
  for (std::string name; std::getline(names, name, '.');) {
    if (parent.type()->getAttribute(name)->kind() == c10::TypeKind::InterfaceType) {
      fail(
          "{}: '{}' is declared as an interface, through which bake() cannot set a coefficient; "
          "hook the site instead",
          site.name(), name);
    }
    expression = fmt::format("getattr({}, \"{}\")", expression, name);
    parent = parent.attr(name).toModule();
    require_plain_state(parent, site);
  }
  return expression;
}

Module bake_edits(const Module& module, const std::vector<SiteEdit>& edits, double coefficient,
                  const std::vector<size_t>& adjustable) {
  Module baked = unshare(module, module.type()->compilation_unit());
  std::vector<std::string> names;
  std::map<std::string, Module> object_at;
  for (auto& [path, object] : module_paths(baked)) {
    const auto methods = object.type()->methods();
    if (std::none_of(methods.begin(), methods.end(),
                     [](const auto* method) { return is_forward(method->name()); })) {
      continue;
    }
    for (const Port port : {Port::input, Port::output}) names.push_back(Site{path, port}.name());
    object_at.emplace(path, object);
  }

  std::string setter = fmt::format("def {}(self, c: float) -> None:\n", kSetter), gate_setter;
  std::set<const c10::ivalue::Object*> prepared;
  for (size_t k = 0; k < edits.size(); ++k) {
    const Site& site = edits[k].site;
    const auto found = object_at.find(site.path);
    if (found == object_at.end()) {
      fail("no site {}; the nearest are {}", site.name(),
           fmt::join(nearest(site.name(), names), ", "));
    }
    Module object = found->second;
    if (site == Site{} && !object.type()->getForwardHooks().empty())
      fail(
          "{}: the module has a forward hook of its own, which would run behind the edit; hook the "
          "site instead, or choose another",
          site.name());
    if (prepared.insert(object._ivalue().get()).second) {
      const std::string expression = expression_of(baked, site);
      setter += fmt::format("    {}.{}(c)\n", expression, add_coefficient(object, coefficient));
    }
    const bool gates = std::find(adjustable.begin(), adjustable.end(), k) != adjustable.end();
    pass_through(object, site, add_edit(object, edits[k].edit, k, gates));
    if (gates) {
      gate_setter +=
          fmt::format("    if edit == {}:\n        {}.{}(term, gate)\n", k,
                      expression_of(baked, site), add_gate_setter(object, edits[k].edit, k));
    }
  }
  baked.define(setter);
  if (!gate_setter.empty()) {
    baked.define(fmt::format("def {}(self, edit: int, term: int, gate: List[float]) -> None:\n{}",
                             kGateSetter, gate_setter));
  }
  return baked;
}

}  // namespace

Module bake(const Module& module, const std::vector<SiteEdit>& edits, double coefficient,
            const std::vector<size_t>& adjustable) {
  const std::string name = module.type()->name()->name();
  if (edits.empty()) fail("{}: found no edit to bake", name);
  if (!std::isfinite(coefficient))
    fail("{}: found coefficient {}, expected a finite one", name, coefficient);
  if (module.find_method(kSetter)) {
    fail("{}: it has a method {} already; bake the module that it was made from", name, kSetter);
  }
  try {
    return bake_edits(module, edits, coefficient, adjustable);
  } catch (const Error& error) {
    fail("{}: {}", name, error.what());
  } catch (const std::exception& error) {
    fail("{}: the edit could not be written into the module: {}", name, reason_of(error));
  }
}

}  // namespace vyx
