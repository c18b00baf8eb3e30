#include "core/hooks/hooked_module.h"

#include <fmt/ranges.h>
#include <torch/csrc/jit/api/compilation_unit.h>
#include <torch/csrc/jit/api/function_impl.h>

#include <algorithm>
#include <mutex>
#include <unordered_set>
#include <utility>

#include "core/base/error.h"
#include "core/base/nearest.h"
#include "core/hooks/call_bounds.h"
#include "core/hooks/run_frame.h"
#include "core/hooks/script_error.h"
#include "core/hooks/taps.h"
#include "core/hooks/unshare.h"

namespace vyx {

struct HookedModule::Impl {
  explicit Impl(const torch::jit::Module& module);

  const std::vector<TappedMethod>& methods_at(const Site& site) const;
  torch::jit::Method method(const std::string& name) const;
  c10::IValue run(const std::string& method, Arguments args, const KeywordArguments& kwargs,
                  std::shared_ptr<Run> run);
  c10::IValue call(const torch::jit::Method& method, Arguments args,
                   const KeywordArguments& kwargs);
  bool has_compiled_hooks() const {
    return !module.type()->getForwardPreHooks().empty() ||
           !module.type()->getForwardHooks().empty();
  }
  int calls_at_most(const torch::jit::Function& entry, const torch::jit::Function& callee);

  torch::jit::Module original;  // owns the functions and script classes that the copy uses
  torch::jit::Module module;    // the instrumented copy
  std::vector<std::vector<TappedMethod>> objects;     // that have a forward method
  std::unordered_map<std::string, size_t> object_at;  // path → index into objects
  std::vector<std::string> paths, site_names;         // of objects, in the order of the tree
  std::mutex bounds_mutex;
  CallBounds bounds;
};

namespace {

/// For messages: the class's own name, without the package that it was exported from.
std::string class_name(const torch::jit::Module& module) {
  return module.type()->name()->name();
}

std::string join(const std::vector<std::string>& names) {
  return fmt::format("{}", fmt::join(names, ", "));
}

}  // namespace

HookedModule::Impl::Impl(const torch::jit::Module& to_hook)
    : original(to_hook), module(unshare(to_hook, std::make_shared<torch::jit::CompilationUnit>())) {
  std::unordered_map<const c10::ivalue::Object*, size_t> index_of;
  for (const auto& [path, object] : module_paths(module)) {
    auto known = index_of.find(object._ivalue().get());
    if (known == index_of.end()) {
      auto methods = insert_taps(object, path.empty());
      if (methods.empty()) continue;  // a container: never called
      known = index_of.emplace(object._ivalue().get(), objects.size()).first;
      objects.push_back(std::move(methods));
    }
    object_at.emplace(path, known->second);
    paths.push_back(path);
    for (const Port port : {Port::input, Port::output})
      site_names.push_back(Site{path, port}.name());
  }
}

const std::vector<TappedMethod>& HookedModule::Impl::methods_at(const Site& site) const {
  const auto found = object_at.find(site.path);
  if (found == object_at.end()) {
    fail("{}: no site {}; the nearest are {}", class_name(module), site.name(),
         join(nearest(site.name(), site_names)));
  }
  return objects[found->second];
}

torch::jit::Method HookedModule::Impl::method(const std::string& name) const {
  if (auto found = module.find_method(name)) return *found;
  std::vector<std::string> names;
  for (const torch::jit::Function* function : module.type()->methods())
    names.push_back(function->name());
  fail("{}: no method {}; it has {}", class_name(module), name, join(names));
}

c10::IValue HookedModule::Impl::run(const std::string& name, Arguments args,
                                    const KeywordArguments& kwargs, std::shared_ptr<Run> run) {
  const torch::jit::Method to_run = method(name);
  const RunFrameScope scope(run);
  try {
    return call(to_run, std::move(args), kwargs);
  } catch (const std::exception& error) {
    if (const auto thrown = run->kept(error.what())) std::rethrow_exception(thrown);
    fail("{}.{}: {}", class_name(module), name, reason_of(error));
  }
}

/// Of a root with hooks compiled into its class: as Python's m(x) runs it, whose graph knows only
/// the hooks of submodules.
c10::IValue HookedModule::Impl::call(const torch::jit::Method& to_run, Arguments args,
                                     const KeywordArguments& kwargs) {
  if (to_run.name() != "forward" || !has_compiled_hooks()) return to_run(std::move(args), kwargs);
  torch::jit::Stack stack{module._ivalue()};
  for (c10::IValue& argument : args) stack.push_back(std::move(argument));
  to_run.function().getSchema().checkAndNormalizeInputs(stack, kwargs);
  stack.erase(stack.begin());
  c10::IValue arguments = c10::ivalue::Tuple::create(std::move(stack));
  for (torch::jit::Function* hook : module.type()->getForwardPreHooks()) {
    const c10::IValue changed = (*hook)({module._ivalue(), arguments});
    if (changed.isNone()) continue;
    arguments = changed.isTuple() ? changed : c10::ivalue::Tuple::create({changed});
  }
  c10::IValue value = to_run(arguments.toTupleRef().elements().vec(), {});
  if (module.type()->getForwardHooks().empty()) return value;
  for (torch::jit::Function* hook : module.type()->getForwardHooks()) {
    c10::IValue changed = (*hook)({module._ivalue(), arguments, value});
    if (!changed.isNone()) value = std::move(changed);
  }
  for (const TappedMethod& tapped : objects[object_at.at("")])
    if (tapped.function == &to_run.function()) run_hooks(*tapped.output, value);
  return value;
}

int HookedModule::Impl::calls_at_most(const torch::jit::Function& entry,
                                      const torch::jit::Function& callee) {
  const std::lock_guard lock(bounds_mutex);
  return bounds.at_most(entry, callee);
}

HookedModule::HookedModule(const torch::jit::Module& module)
    : impl_(std::make_shared<Impl>(module)) {}

const std::vector<std::string>& HookedModule::sites() const {
  return impl_->site_names;
}

const torch::jit::Module& HookedModule::module() const {
  return impl_->module;
}

std::vector<Site> HookedModule::match(std::string_view pattern) const {
  std::vector<Site> all, sites;
  for (const std::string& path : impl_->paths)
    for (const Port port : {Port::input, Port::output}) all.push_back({path, port});
  std::unordered_set<size_t> taken[2];  // objects, by port
  for (Site& site : SitePattern(pattern).choose(all, class_name(impl_->module)))
    if (taken[static_cast<int>(site.port)].insert(impl_->object_at.at(site.path)).second)
      sites.push_back(std::move(site));
  return sites;
}

void HookedModule::require(std::span<const Site> sites) const {
  for (const Site& site : sites) (void)impl_->methods_at(site);
}

HookHandle HookedModule::hook(std::string_view pattern, Hook hook) {
  return this->hook(std::span<const Site>(match(pattern)), std::move(hook));
}

HookHandle HookedModule::hook(std::span<const Site> sites, Hook hook) {
  const auto shared = std::make_shared<const Hook>(std::move(hook));
  std::vector<std::shared_ptr<HookHandle::Registration>> registrations;
  for (const Site& site : sites) {
    for (const TappedMethod& method : impl_->methods_at(site)) {
      registrations.push_back(std::make_shared<HookHandle::Registration>());
      registrations.back()->site = site;
      registrations.back()->hook = shared;
      registrations.back()->slot = method.slot(site.port);
    }
  }
  HookHandle handle(registrations);  // first, so that it takes away what was added if adding fails
  for (auto& registration : registrations) registration->slot->add(registration);
  return handle;
}

c10::IValue HookedModule::run(const std::string& method, Arguments args,
                              const KeywordArguments& kwargs) {
  return impl_->run(method, std::move(args), kwargs, std::make_shared<Run>());
}

void HookedModule::harvest(const std::string& method, Arguments args,
                           const KeywordArguments& kwargs) {
  const torch::jit::Method called = impl_->method(method);
  const torch::jit::Function& entry = called.function();
  std::unordered_set<const HookSlot*> awaited;
  // What compiled hooks call is in no graph.
  bool repeated = method == "forward" && impl_->has_compiled_hooks();
  for (const auto& methods : impl_->objects) {
    for (const TappedMethod& tapped : methods) {
      for (const Port port : {Port::input, Port::output}) {
        if (!tapped.slot(port)->hooked()) continue;
        const int calls = impl_->calls_at_most(entry, *tapped.function);
        if (calls == 1) awaited.insert(tapped.slot(port).get());
        repeated |= calls > 1;
      }
    }
  }
  if (repeated) {
    awaited.clear();  // to the end
  } else if (awaited.empty()) {
    return;  // nobody listens
  }
  try {
    impl_->run(method, std::move(args), kwargs, std::make_shared<Run>(std::move(awaited)));
  } catch (const HarvestDone&) {
  }
}

int HookedModule::calls_at_most(const std::string& method, const Site& site) const {
  const torch::jit::Method called = impl_->method(method);
  const torch::jit::Function& entry = called.function();
  int calls = 0;
  for (const TappedMethod& tapped : impl_->methods_at(site))
    calls += impl_->calls_at_most(entry, *tapped.function);
  return std::min(calls, 2);
}

}  // namespace vyx
