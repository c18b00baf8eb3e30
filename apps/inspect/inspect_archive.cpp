#include <fmt/ranges.h>

#include <map>
#include <optional>
#include <vector>

#include "apps/inspect/inspect.h"
#include "core/formats/element_type.h"
#include "core/hooks/activation.h"
#include "core/hooks/activation_reader.h"
#include "core/hooks/hooked_module.h"
#include "core/hooks/script_archive.h"
#include "core/hooks/script_outline.h"
#include "models/language_model/language_model.h"

namespace vyx::apps {
namespace {

/// Shapes of the activations at a language model's sites, from a forward of two tokens.
std::map<std::string, std::string> site_shapes(const std::string& path) {
  auto model = models::LanguageModel::load(path);
  std::vector<Site> sites;
  for (const std::string& name : model.module().sites()) sites.push_back(Site::parse(name));
  const auto keep = [](const Site&, const c10::IValue& value) {
    return activation_of(value).value_or(at::Tensor());
  };
  const std::vector<std::vector<models::TokenId>> prompt{{0, 0}};
  const auto calls = read_calls(model.module(), sites, keep, [&] {
    model.logits(models::make_batch(prompt, models::Padding::right, 0));
  });
  std::map<std::string, std::string> shapes;
  for (size_t i = 0; i < sites.size(); ++i)
    if (!calls[i].empty())
      shapes[sites[i].name()] = fmt::format("[{}]", fmt::join(calls[i].back().sizes(), ", "));
  return shapes;
}

/// The same as outline_script, of the module itself.
ScriptOutline outline_by_loading(const std::string& path, const std::vector<std::string>& extras) {
  ScriptArchive archive = load_script(path, extras);
  ScriptOutline outline;
  for (const auto& [name, value] : archive.module.named_parameters())
    outline.parameters.push_back({name, c10::toString(value.scalar_type()), value.sizes().vec()});
  outline.sites = HookedModule(archive.module).sites();
  outline.extra_files = std::move(archive.extra_files);
  return outline;
}

}  // namespace

Inspection inspect_archive(const std::string& path, bool run) {
  const std::vector<std::string> extras{"config.json", "tokenizer.json"};
  const ScriptOutline outline =
      run ? outline_by_loading(path, extras) : outline_script(path, extras);
  const bool language_model = outline.extra_files.contains("config.json");
  uint64_t count = 0;
  Json tensors = Json::array(), sites = Json::array();
  std::string tensor_lines, site_lines, notes;
  for (const auto& [name, type, sizes] : outline.parameters) {
    count += element_count(sizes).value_or(0);
    const Json shape = sizes;
    tensors.push_back({{"name", name}, {"dtype", type}, {"shape", shape}});
    tensor_lines += fmt::format("  {:<56} {:<9} {}\n", name, type, shape.dump());
  }
  const bool shaped = run && language_model;
  const auto shapes = shaped ? site_shapes(path) : std::map<std::string, std::string>{};
  for (const std::string& site : outline.sites) {
    const auto shape = shapes.find(site);
    const bool reached = shape != shapes.end();
    sites.push_back({{"site", site}, {"shape", reached ? Json(shape->second) : Json(nullptr)}});
    site_lines += fmt::format("  {:<56} {}\n", site, reached ? shape->second : "");
  }
  for (const std::string& module : outline.opaque)
    notes += fmt::format("note: {} saves a state of its own making; --run shows what is in it\n",
                         module.empty() ? "the module" : module);
  const std::string config = language_model ? outline.extra_files.at("config.json") : "";
  const std::string_view hint = shaped           ? " (shapes for one prompt of two tokens)"
                                : language_model ? " (--run shows their shapes)"
                                                 : "";
  return {{{"kind", "torchscript"},
           {"parameters", count},
           {"config", language_model ? parse_json(config, path) : Json(nullptr)},
           {"sites", sites},
           {"tensors", tensors},
           {"opaque", outline.opaque}},
          fmt::format("{}: TorchScript, {} parameters, {} sites{}\n{}{}sites{}:\n{}parameters:\n{}",
                      path, count, outline.sites.size(), language_model ? ", a language model" : "",
                      notes, language_model ? config + "\n" : "", hint, site_lines, tensor_lines)};
}

}  // namespace vyx::apps
