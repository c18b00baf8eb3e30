#include <fmt/ranges.h>

#include <map>
#include <optional>
#include <vector>

#include "apps/inspect/inspect.h"
#include "core/hooks/activation.h"
#include "core/hooks/activation_reader.h"
#include "core/hooks/hooked_module.h"
#include "core/hooks/script_archive.h"
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

}  // namespace

Inspection inspect_archive(const std::string& path) {
  const ScriptArchive archive = load_script(path, {"config.json", "tokenizer.json"});
  const bool language_model = archive.extra_files.count("config.json") != 0;
  uint64_t count = 0;
  Json tensors = Json::array(), sites = Json::array();
  std::string tensor_lines, site_lines;
  for (const auto& [name, value] : archive.module.named_parameters()) {
    count += value.numel();
    const char* dtype = c10::toString(value.scalar_type());
    const Json shape = value.sizes().vec();
    tensors.push_back({{"name", name}, {"dtype", dtype}, {"shape", shape}});
    tensor_lines += fmt::format("  {:<56} {:<9} {}\n", name, dtype, shape.dump());
  }
  const auto shapes = language_model ? site_shapes(path) : std::map<std::string, std::string>{};
  const HookedModule hooked(archive.module);
  for (const std::string& site : hooked.sites()) {
    const auto shape = shapes.find(site);
    const bool reached = shape != shapes.end();
    sites.push_back({{"site", site}, {"shape", reached ? Json(shape->second) : Json(nullptr)}});
    site_lines += fmt::format("  {:<56} {}\n", site, reached ? shape->second : "");
  }
  const std::string config = language_model ? archive.extra_files.at("config.json") : "";
  return {{{"kind", "torchscript"},
           {"parameters", count},
           {"config", language_model ? parse_json(config, path) : Json(nullptr)},
           {"sites", sites},
           {"tensors", tensors}},
          fmt::format("{}: TorchScript, {} parameters, {} sites{}\n{}sites{}:\n{}parameters:\n{}",
                      path, count, sites.size(), language_model ? ", a language model" : "",
                      language_model ? config + "\n" : "",
                      language_model ? " (shapes for one prompt of two tokens)" : "", site_lines,
                      tensor_lines)};
}

}  // namespace vyx::apps
