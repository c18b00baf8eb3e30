// vyx::core's side of test_hooks.py: runs a module with hooks or edits and writes what it saw as a
// pickle of tensors.
//
//     parity-hooks capture MODULE ARGS OUT
//         all sites, as "output|i" and "call|i|path|in or out|j", in order of calls
//     parity-hooks edit MODULE ARGS OUT SITE…
//         "output|i", with the edit of ARGS["edit"] attached at each site
//     parity-hooks bake MODULE ARGS ARCHIVE SITE…
//         the same edit baked
//
// ARGS is a pickled dict: "args" (a list), and for an edit "kind", "vector" [d] and "coefficient".
#include <torch/csrc/jit/serialization/pickle.h>
#include <torch/script.h>

#include <fstream>
#include <iostream>
#include <iterator>
#include <mutex>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/edits/attached_edit.h"
#include "core/edits/bake.h"
#include "core/hooks/hooked_module.h"
#include "core/hooks/script_archive.h"

namespace {

using c10::IValue;
using Tensors = c10::Dict<std::string, at::Tensor>;

void flatten(const IValue& value, std::vector<at::Tensor>& tensors) {
  if (value.isTensor()) {
    tensors.push_back(value.toTensor());
  } else if (value.isTuple()) {
    for (const IValue& element : value.toTupleRef().elements()) flatten(element, tensors);
  } else if (value.isList()) {
    for (const IValue& element : value.toListRef()) flatten(element, tensors);
  } else if (value.isGenericDict()) {
    for (const auto& entry : value.toGenericDict()) flatten(entry.value(), tensors);
  }
}

void store(Tensors& out, const std::string& prefix, const IValue& value) {
  std::vector<at::Tensor> tensors;
  flatten(value, tensors);
  for (size_t i = 0; i < tensors.size(); ++i) {
    out.insert_or_assign(prefix + "|" + std::to_string(i), tensors[i].detach().clone());
  }
}

void write(const std::string& path, const Tensors& tensors) {
  const std::vector<char> bytes = torch::jit::pickle_save(tensors);
  std::ofstream(path, std::ios::binary)
      .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

Tensors capture(const torch::jit::Module& module, const vyx::Arguments& args) {
  vyx::HookedModule hooked(module);
  for (int i = 0; i < 3; ++i)
    hooked.forward(args);  // past the profiling runs: the optimised graph is compared
  Tensors out;
  std::mutex mutex;
  std::vector<std::pair<std::string, IValue>> open;  // inputs whose output is still to come
  int calls = 0;
  const vyx::HookHandle inputs =
      hooked.hook("**:input", [&](const vyx::Site& site, const IValue& value) {
        std::vector<at::Tensor> tensors;
        flatten(value, tensors);
        for (at::Tensor& tensor : tensors)
          tensor = tensor.detach().clone();  // as they are before the call
        const std::lock_guard lock(mutex);
        open.emplace_back(site.path, tensors);
        return std::optional<IValue>();
      });
  const vyx::HookHandle outputs =
      hooked.hook("**", [&](const vyx::Site& site, const IValue& value) {
        const std::lock_guard lock(mutex);
        const auto mine = std::find_if(open.rbegin(), open.rend(),
                                       [&](const auto& call) { return call.first == site.path; });
        const std::string prefix = "call|" + std::to_string(calls++) + "|" + site.path;
        store(out, prefix + "|in", mine->second);
        store(out, prefix + "|out", value);
        open.erase(std::next(mine).base());
        return std::optional<IValue>();
      });
  store(out, "output", hooked.forward(args));
  return out;
}

vyx::Edit edit_of(const c10::Dict<IValue, IValue>& request) {
  const at::Tensor vector = request.at("vector").toTensor();  // [d]
  const std::string kind = request.at("kind").toStringRef();
  if (kind == "add") return vyx::Edit({vyx::Term::add(vector)});
  if (kind == "ablate") return vyx::Edit({vyx::Term::ablate(vector)});
  return vyx::Edit({vyx::Term::add(vector), vyx::Term::clamp(vector, 2)});
}

Tensors edited(const torch::jit::Module& module, const vyx::Arguments& args, const vyx::Edit& edit,
               const at::Tensor& coefficient, const std::vector<vyx::Site>& sites) {
  vyx::HookedModule hooked(module);
  std::vector<vyx::AttachedEdit> attached;
  for (const vyx::Site& site : sites)
    attached.push_back(attach(hooked, site, edit, {.coefficients = coefficient}));
  Tensors out;
  for (int i = 0; i < 3; ++i) store(out, "output", hooked.forward(args));
  for (const vyx::AttachedEdit& each : attached) each.require_fired();
  return out;
}

void run(const std::vector<std::string>& words) {
  const std::string command = words.at(0);
  const torch::jit::Module module = vyx::load_script(words.at(1)).module;
  std::ifstream file(words.at(2), std::ios::binary);
  const std::vector<char> bytes((std::istreambuf_iterator<char>(file)), {});
  const auto request = torch::jit::pickle_load(bytes).toGenericDict();
  const vyx::Arguments args = request.at("args").toTupleRef().elements().vec();
  if (command == "capture") return write(words.at(3), capture(module, args));

  std::vector<vyx::Site> sites;
  for (size_t i = 4; i < words.size(); ++i) sites.push_back(vyx::Site::parse(words[i]));
  const vyx::Edit edit = edit_of(request);
  const double coefficient = request.at("coefficient").toDouble();
  if (command == "edit") {
    return write(words.at(3),
                 edited(module, args, edit, at::scalar_tensor(coefficient, at::kDouble), sites));
  }
  std::vector<vyx::SiteEdit> edits;
  for (const vyx::Site& site : sites) edits.push_back({site, edit});
  vyx::save_script(vyx::bake(module, edits, coefficient), words.at(3));
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const torch::NoGradGuard no_grad;
    run({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
