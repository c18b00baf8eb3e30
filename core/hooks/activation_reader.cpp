#include "core/hooks/activation_reader.h"

#include <ATen/Functions.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <mutex>
#include <optional>
#include <utility>

#include "core/base/error.h"
#include "core/hooks/activation.h"
#include "core/hooks/run_frame.h"

namespace vyx {
namespace {

std::string description_of(const std::optional<at::Tensor>& found) {
  if (!found) return "no tensor";
  return fmt::format(
      "shape [{}]{}{}", fmt::join(found->sizes(), ", "),
      found->is_floating_point() ? "" : fmt::format(" of {}", c10::toString(found->scalar_type())),
      found->layout() == at::kStrided ? "" : " in a sparse layout");
}

bool is_dense(const at::Tensor& x) {
  return x.is_floating_point() && x.layout() == at::kStrided;
}

}  // namespace

void run_hooked(HookedModule& module, std::span<const Site> sites, Hook hook,
                const std::function<void()>& run) {
  const ReaderScope reader;
  const HookHandle handle =
      module.hook(sites,
                  [&, id = reader.id()](const Site& site,
                                        const c10::IValue& value) -> std::optional<c10::IValue> {
                    return is_read_by(id) ? hook(site, value) : std::nullopt;
                  });
  run();
}

std::vector<std::vector<at::Tensor>> read_calls(HookedModule& module, std::span<const Site> sites,
                                                const Keep& keep,
                                                const std::function<void()>& run) {
  std::map<Site, std::vector<at::Tensor>> kept;
  for (const Site& site : sites) kept[site];
  std::vector<Site> hooked;  // each once
  for (const auto& [site, calls] : kept) hooked.push_back(site);
  std::mutex mutex;  // of kept: forked branches run at the same time
  run_hooked(
      module, hooked,
      [&](const Site& site, const c10::IValue& value) -> std::optional<c10::IValue> {
        if (at::Tensor tensor = keep(site, value); tensor.defined()) {
          const std::lock_guard lock(mutex);
          kept.at(site).push_back(std::move(tensor));
        }
        return std::nullopt;
      },
      run);
  std::vector<std::vector<at::Tensor>> result;
  for (const Site& site : sites) result.push_back(kept.at(site));
  return result;
}

std::vector<at::Tensor> read_once(HookedModule& module, std::span<const Site> sites,
                                  const Keep& keep, const std::function<void()>& run) {
  const auto calls = read_calls(module, sites, keep, run);
  std::vector<at::Tensor> result;
  for (size_t i = 0; i < sites.size(); ++i) result.push_back(only_call(sites[i], calls[i]));
  return result;
}

at::Tensor only_call(const Site& site, std::span<const at::Tensor> calls) {
  if (calls.empty()) fail("{}: the run never called this site; choose another", site.name());
  if (calls.size() > 1)
    fail("{}: found {} calls in one run, expected one; choose another site", site.name(),
         calls.size());
  return calls.front();
}

std::map<std::string, std::vector<at::Tensor>> capture(HookedModule& module,
                                                       std::string_view pattern, Arguments args,
                                                       const std::string& method) {
  const std::vector<Site> sites = module.match(pattern);
  auto calls =
      read_calls(module, sites, tensor_at, [&] { module.harvest(method, std::move(args)); });
  std::map<std::string, std::vector<at::Tensor>> captured;
  for (size_t i = 0; i < sites.size(); ++i) {
    if (calls[i].empty()) fail("{}: {} never called this site", sites[i].name(), method);
    captured[sites[i].name()] = std::move(calls[i]);
  }
  return captured;
}

at::Tensor tensor_at(const Site& site, const c10::IValue& value) {
  auto found = activation_of(value);
  if (!found)
    fail("{}: found {}, expected a value that holds a tensor", site.name(), value.tagKind());
  return std::move(*found);
}

at::Tensor activation_at(const Site& site, const c10::IValue& value) {
  auto found = activation_of(value);
  if (!found || found->dim() < 1 || !is_dense(*found))
    fail("{}: found {}, expected an activation [.., d] of floating point; choose another site",
         site.name(), description_of(found));
  if (found->dim() > kMostDimensions)
    fail(
        "{}: found {}, expected at most {} dimensions, [.., d]: of more it is not known which one "
        "holds the features; choose another site",
        site.name(), description_of(found), kMostDimensions);
  return std::move(*found);
}

at::Tensor activation_at(const Site& site, const c10::IValue& value, at::IntArrayRef tokens) {
  auto found = activation_of(value);
  if (!found || found->dim() != 3 || found->sizes().slice(0, 2) != tokens || !is_dense(*found))
    fail("{}: found {}, expected an activation [batch, seq, d] = [{}, d]; choose another site",
         site.name(), description_of(found), fmt::join(tokens, ", "));
  return std::move(*found);
}

at::Tensor copy_of(const at::Tensor& x) {
  return x.to(at::kCPU, at::kFloat, false, /*copy=*/true);
}

}  // namespace vyx
