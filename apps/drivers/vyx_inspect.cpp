#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <map>

#include "apps/options/driver.h"
#include "core/base/error.h"
#include "core/formats/gguf.h"
#include "core/formats/safetensors.h"
#include "core/hooks/activation.h"
#include "core/hooks/hooked_module.h"
#include "core/hooks/script_archive.h"
#include "core/io/files.h"
#include "models/language_model/language_model.h"
#include "sae/files/autoencoder_file.h"
#include "sae/store/activation_store.h"
#include "steering/files/control_vector_file.h"

namespace {

using namespace vyx;

std::string shape_text(at::IntArrayRef shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

/// A metadata value on one line: long texts and arrays are cut.
struct ValuePrinter {
  std::string operator()(const std::string& text) const {
    const auto line = text.substr(0, std::min(text.find('\n'), size_t{60}));
    return line.size() < text.size() ? line + "…" : line;
  }
  std::string operator()(const GgufArray& array) const {
    return std::visit([](const auto& items) { return fmt::format("{} items", items.size()); },
                      array);
  }
  template <class Number>
  std::string operator()(Number number) const {
    return fmt::format("{}", number);
  }
};

std::string value_text(const GgufValue& value) {
  return std::visit(ValuePrinter{}, value);
}

Json inspect_store(const std::string& path, bool print) {
  const sae::ActivationStore store(path, /*verify=*/false);
  const auto& manifest = store.manifest();
  if (print) {
    fmt::print("{}: an activation store, {} rows in {}, {} shards, of {} tokens\n", path,
               manifest.rows, sae::dtype_name(manifest.type), manifest.shards.size(),
               manifest.tokens);
    for (const auto& site : manifest.sites)
      fmt::print(
          "  {:<32} width {}, norm: mean {:.4g}, median {:.4g}, rms {:.4g}, largest {:.4g}\n",
          site.site, site.width, site.norm_mean, site.norm_median, site.norm_rms, site.norm_max);
    fmt::print("  left out: {}\n", manifest.left_out.dump());
    for (const auto& [key, value] : manifest.recipe.items())
      fmt::print("  {:<20} {}\n", key, value.dump());
  }
  Json report = parse_json(to_json(manifest), path);
  report["kind"] = "activation store";
  return report;
}

Json inspect_control_vector(const std::string& path, bool print) {
  std::string warning;
  const auto vector = steering::read_control_vector(path, "model.layers", &warning);
  const auto& p = vector.provenance;
  Json sites = Json::array();
  for (const auto& [site, direction] : vector.directions) {
    const double norm = direction.vector.norm().item<double>();
    sites.push_back(
        {{"site", site.name()},
         {"norm", norm},
         {"held_out_accuracy", apps::json_number_or_null(direction.statistics.held_out_accuracy)}});
  }
  if (print) {
    fmt::print("{}: a control vector, {} sites of width {}\n", path, vector.directions.size(),
               vector.width());
    fmt::print("  model: {} ({})\n  method: {}, {} pairs of {}\n",
               p.model_name.empty() ? "?" : p.model_name, p.model_hint,
               p.method.empty() ? "?" : p.method, p.pairs,
               p.contrast_source.empty() ? "?" : p.contrast_source);
    for (const Json& site : sites)
      fmt::print("  {:<32} norm {:.4g}\n", site["site"].get<std::string>(),
                 site["norm"].get<double>());
    if (!warning.empty()) fmt::print("  note: {}\n", warning);
  }
  return {{"kind", "control vector"},   {"model_name", p.model_name},
          {"model_hint", p.model_hint}, {"method", p.method},
          {"pairs", p.pairs},           {"width", vector.width()},
          {"warning", warning},         {"sites", sites}};
}

Json inspect_gguf(const std::string& path, bool print) {
  const GgufFile file(path);
  if (const GgufValue* kind = file->find("general.architecture"))
    if (const auto* name = std::get_if<std::string>(kind); name && *name == "controlvector")
      return inspect_control_vector(path, print);
  Json metadata = Json::object(), tensors = Json::array();
  uint64_t parameters = 0;
  for (const auto& [key, value] : file->metadata()) metadata[key] = value_text(value);
  for (const GgufTensor& tensor : file->tensors()) {
    parameters += tensor.elements();
    tensors.push_back(
        {{"name", tensor.name}, {"type", name_of(tensor.type)}, {"shape", tensor.shape}});
  }
  if (print) {
    fmt::print("{}: GGUF version {}, {} tensors, {} parameters\n", path, file->version(),
               tensors.size(), parameters);
    for (const auto& [key, value] : file->metadata())
      fmt::print("  {:<44} {:<6} {}\n", key, type_name(value), value_text(value));
    for (const GgufTensor& tensor : file->tensors())
      fmt::print("  {:<44} {:<6} [{}]\n", tensor.name, name_of(tensor.type),
                 fmt::join(tensor.shape, ", "));
  }
  return {{"kind", "gguf"},
          {"version", file->version()},
          {"parameters", parameters},
          {"metadata", metadata},
          {"tensors", tensors}};
}

Json inspect_safetensors(const std::string& path, bool print) {
  const SafetensorsFile file(path);
  Json tensors = Json::array();
  uint64_t parameters = 0;
  for (const SafetensorsTensor& tensor : file->tensors()) {
    parameters += element_count(tensor.shape).value_or(0);
    tensors.push_back(
        {{"name", tensor.name}, {"type", name_of(tensor.type)}, {"shape", tensor.shape}});
  }
  if (print) {
    fmt::print("{}: safetensors, {} tensors, {} numbers\n", path, file->tensors().size(),
               parameters);
    for (const auto& [key, value] : file->metadata())
      fmt::print("  {:<44} {}\n", key, ValuePrinter{}(value));
    for (const SafetensorsTensor& tensor : file->tensors())
      fmt::print("  {:<44} {:<6} [{}]\n", tensor.name, name_of(tensor.type),
                 fmt::join(tensor.shape, ", "));
  }
  return {{"kind", "safetensors"},
          {"parameters", parameters},
          {"metadata", file->metadata()},
          {"tensors", tensors}};
}

Json inspect_autoencoder(const std::string& path, bool print) {
  const std::string_view format = sae::name_of(sae::recognise_format(path));
  const sae::Autoencoder autoencoder = sae::load_autoencoder(path);
  const sae::AutoencoderConfig& config = autoencoder.config;
  const std::string_view architecture = sae::name_of(config.architecture);
  const bool has_k = config.architecture == sae::Architecture::topk ||
                     config.architecture == sae::Architecture::batch_topk;
  Json result = {{"kind", "autoencoder"},
                 {"format", format},
                 {"architecture", architecture},
                 {"d_in", config.d_in},
                 {"d_out", config.d_out},
                 {"latents", config.latents},
                 {"k", has_k ? Json(config.k) : Json(nullptr)},
                 {"prefixes", config.prefixes},
                 {"normalization", sae::name_of(config.normalization)},
                 {"subtract_decoder_bias", config.subtract_decoder_bias},
                 {"skip", autoencoder.weights.skip.defined()},
                 {"sites", config.sites},
                 {"target_sites", config.target_sites},
                 {"decoder_norm", autoencoder.weights.decoder.norm(2, {1}).mean().item<double>()},
                 {"metadata", config.metadata}};
  if (print) {
    fmt::print("{}: an autoencoder ({}), {} with {} latents, {} -> {}\n", path, format,
               architecture, config.latents, config.d_in, config.d_out);
    for (const char* key : {"k", "prefixes", "normalization", "subtract_decoder_bias", "skip",
                            "sites", "target_sites", "decoder_norm"})
      if (!result[key].empty()) fmt::print("  {:<24} {}\n", key, result[key].dump());
    for (const auto& [key, value] : config.metadata.items())
      fmt::print("  metadata.{:<15} {}\n", key, ValuePrinter{}(value.dump()));
  }
  return result;
}

/// Shapes of the activations at a language model's sites, from a forward of two tokens.
std::map<std::string, std::string> site_shapes(const std::string& path) {
  auto model = models::LanguageModel::load(path);
  std::map<std::string, std::string> shapes;
  std::vector<HookHandle> handles;
  for (const char* pattern : {"**:input", "**:output"})
    handles.push_back(model.module().hook(pattern, [&](const Site& site, const c10::IValue& value) {
      if (const auto activation = activation_of(value))
        shapes[site.name()] = shape_text(activation->sizes());
      return std::optional<c10::IValue>();
    }));
  const std::vector<std::vector<models::TokenId>> prompt{{0, 0}};
  model.logits(models::make_batch(prompt, models::Padding::right, 0));
  return shapes;
}

Json inspect_archive(const std::string& path, bool print) {
  const ScriptArchive archive = load_script(path, {"config.json", "tokenizer.json"});
  const bool language_model = archive.extra_files.count("config.json") != 0;
  uint64_t count = 0;
  Json parameters = Json::array();
  for (const auto& parameter : archive.module.named_parameters()) {
    count += parameter.value.numel();
    parameters.push_back({{"name", parameter.name},
                          {"dtype", c10::toString(parameter.value.scalar_type())},
                          {"shape", parameter.value.sizes().vec()}});
  }
  const auto shapes = language_model ? site_shapes(path) : std::map<std::string, std::string>{};
  Json sites = Json::array();
  const HookedModule hooked(archive.module);
  for (const std::string& site : hooked.sites()) {
    const auto shape = shapes.find(site);
    sites.push_back(
        {{"site", site}, {"shape", shape == shapes.end() ? Json(nullptr) : Json(shape->second)}});
  }
  if (print) {
    fmt::print("{}: TorchScript, {} parameters, {} sites{}\n", path, count, sites.size(),
               language_model ? ", a language model" : "");
    if (language_model) fmt::print("{}\n", archive.extra_files.at("config.json"));
    fmt::print("sites{}:\n", language_model ? " (shapes for one prompt of two tokens)" : "");
    for (const Json& site : sites)
      fmt::print("  {:<56} {}\n", site["site"].get<std::string>(),
                 site["shape"].is_null() ? "" : site["shape"].get<std::string>());
    fmt::print("parameters:\n");
    for (const Json& parameter : parameters)
      fmt::print("  {:<56} {:<9} {}\n", parameter["name"].get<std::string>(),
                 parameter["dtype"].get<std::string>(), parameter["shape"].dump());
  }
  return {{"kind", "torchscript"},
          {"parameters", count},
          {"config", language_model ? parse_json(archive.extra_files.at("config.json"), path)
                                    : Json(nullptr)},
          {"sites", sites},
          {"tensors", parameters}};
}

}  // namespace

int main(int argc, char** argv) {
  std::string path;
  apps::Driver driver("vyx-inspect", "FILE",
                      "Shows what is in a model.pt (sites, shapes, parameters), a GGUF file, a "
                      "control vector, a safetensors file, an\n"
                      "autoencoder or an activation store.",
                      "  vyx-inspect smollm2.pt\n  vyx-inspect happy.gguf\n  vyx-inspect --json "
                      "smollm2.gguf\n  vyx-inspect runs/sae");
  driver.options()("file", apps::po::value(&path)->required()->value_name("FILE"), "the file");
  driver.positional("file");

  return driver.run(argc, argv, [&](const apps::CommonOptions& common) -> Json {
    if (std::filesystem::exists(std::filesystem::path(path) / "manifest.json"))
      return inspect_store(path, !common.json);
    if (std::filesystem::is_directory(path) || path.ends_with(".npz"))
      return inspect_autoencoder(path, !common.json);
    const MappedFile file(path);
    const auto bytes = file.bytes();
    const auto starts_with = [&](std::string_view magic) {
      return bytes.size() >= magic.size() &&
             std::equal(magic.begin(), magic.end(), reinterpret_cast<const char*>(bytes.data()));
    };
    if (starts_with("GGUF")) return inspect_gguf(path, !common.json);
    if (starts_with("PK\x03\x04")) return inspect_archive(path, !common.json);
    if (bytes.size() > 8 && bytes[8] == std::byte{'{'})
      return inspect_safetensors(path, !common.json);
    fail(
        "{}: neither GGUF nor safetensors nor a TorchScript archive (it begins with neither "
        "\"GGUF\" nor \"PK\")",
        path);
  });
}
