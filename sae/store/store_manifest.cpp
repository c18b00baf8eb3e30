#include "sae/store/store_manifest.h"

#include <limits>
#include <utility>

#include "core/base/error.h"
#include "core/io/files.h"

namespace vyx::sae {
namespace {

constexpr const char* kFormat = "vyx activation store";
constexpr int64_t kVersion = 1, kMaxCount = std::numeric_limits<int64_t>::max(),
                  kMaxWidth = 1 << 24;

constexpr std::pair<ElementType, const char*> kDtypes[] = {
    {ElementType::f32, "float32"}, {ElementType::bf16, "bfloat16"}, {ElementType::f16, "float16"}};

uint64_t count(const Json& json, const char* key, std::string_view source) {
  return static_cast<uint64_t>(json_integer(json, key, source, 0, kMaxCount));
}

const Json& list(const Json& json, const char* key, std::string_view source) {
  const auto found = json.find(key);
  if (found == json.end() || !found->is_array())
    fail("{}: found no list \"{}\"; the file is damaged or no manifest", source, key);
  return *found;
}

StoreSite site_from_json(const Json& json, const std::string& source) {
  if (!json.is_object()) fail("{}: found a {}, expected an object", source, json.type_name());
  StoreSite site{.site = json_string(json, "site", source),
                 .width = json_integer(json, "width", source, 1, kMaxWidth),
                 .mean = {}};
  for (const Json& value : list(json, "mean", source)) {
    if (!value.is_number())
      fail("{}: found a {} in \"mean\", expected numbers", source, value.type_name());
    site.mean.push_back(value.get<double>());
  }
  if (std::cmp_not_equal(site.mean.size(), site.width))
    fail("{}: found a mean of {}, expected the width of {}", source, site.mean.size(), site.width);
  site.norm_mean = json_number(json, "norm_mean", source);
  site.norm_rms = json_number(json, "norm_rms", source);
  site.norm_max = json_number(json, "norm_max", source);
  site.norm_median = json_number(json, "norm_median", source);
  site.norm_threshold = json_number(json, "norm_threshold", source);
  return site;
}

}  // namespace

std::string shard_file(size_t index) {
  return fmt::format("shard-{:05}.safetensors", index);
}

std::string_view dtype_name(ElementType type) {
  for (const auto& [known, name] : kDtypes)
    if (known == type) return name;
  return name_of(type);
}

ElementType type_from_dtype(std::string_view dtype) {
  for (const auto& [type, name] : kDtypes)
    if (name == dtype) return type;
  throw UsageError(fmt::format("dtype {}: expected float32, bfloat16 or float16", dtype));
}

Json shards_json(const std::vector<StoreShard>& shards) {
  Json json = Json::array();
  for (size_t i = 0; i < shards.size(); ++i)
    json.push_back({{"file", shard_file(i)},
                    {"rows", shards[i].rows},
                    {"bytes", shards[i].bytes},
                    {"sha256", shards[i].sha256}});
  return json;
}

std::vector<StoreShard> shards_from_json(const Json& json, std::string_view source) {
  if (!json.is_array())
    fail("{}: found a {} where the shards are listed, expected a list", source, json.type_name());
  std::vector<StoreShard> shards;
  for (const Json& item : json) {
    const std::string where = fmt::format("{}: shard {}", source, shards.size());
    if (!item.is_object()) fail("{}: found a {}, expected an object", where, item.type_name());
    if (json_string(item, "file", where) != shard_file(shards.size()))
      fail("{}: found the file name {}, expected {}", where, item["file"].dump(),
           shard_file(shards.size()));
    shards.push_back({.rows = count(item, "rows", where),
                      .bytes = count(item, "bytes", where),
                      .sha256 = json_string(item, "sha256", where)});
    if (shards.back().rows == 0) fail("{}: found 0 rows, expected at least 1", where);
  }
  return shards;
}

std::string to_json(const StoreManifest& manifest) {
  Json sites = Json::array();
  for (const StoreSite& site : manifest.sites)
    sites.push_back({{"site", site.site},
                     {"width", site.width},
                     {"mean", site.mean},
                     {"norm_mean", site.norm_mean},
                     {"norm_rms", site.norm_rms},
                     {"norm_max", site.norm_max},
                     {"norm_median", site.norm_median},
                     {"norm_threshold", site.norm_threshold}});
  return Json{{"format", kFormat},
              {"version", kVersion},
              {"recipe", manifest.recipe},
              {"left_out", manifest.left_out},
              {"input", manifest.input},
              {"dtype", dtype_name(manifest.type)},
              {"rows", manifest.rows},
              {"tokens", manifest.tokens},
              {"sites", sites},
              {"shards", shards_json(manifest.shards)}}
      .dump(1);
}

StoreManifest manifest_from_json(std::string_view text, std::string_view source) {
  const Json json = parse_json(text, source);
  if (!json.is_object()) fail("{}: found a {}, expected an object", source, json.type_name());
  if (json_string(json, "format", source) != kFormat)
    fail("{}: found format {}, expected \"{}\"", source, json["format"].dump(), kFormat);
  if (const int64_t version = json_integer(json, "version", source, 0, kMaxCount);
      version != kVersion)
    fail("{}: found version {}, expected {}; harvest again, or use a newer vyx", source, version,
         kVersion);
  StoreManifest manifest{.recipe = json.value("recipe", Json::object()),
                         .left_out = json.value("left_out", Json::object()),
                         .input = json.value("input", Json::object()),
                         .rows = count(json, "rows", source),
                         .tokens = count(json, "tokens", source),
                         .sites = {},
                         .shards = shards_from_json(list(json, "shards", source), source)};
  const std::string dtype = json_string(json, "dtype", source);
  try {
    manifest.type = type_from_dtype(dtype);
  } catch (const UsageError& error) {
    fail("{}: {}", source, error.what());
  }
  for (const Json& site : list(json, "sites", source))
    manifest.sites.push_back(
        site_from_json(site, fmt::format("{}: site {}", source, manifest.sites.size())));
  if (manifest.sites.empty()) fail("{}: found no site, expected at least one", source);
  uint64_t rows = 0;
  for (const StoreShard& shard : manifest.shards)
    if (__builtin_add_overflow(rows, shard.rows, &rows))
      fail("{}: found shards of too many rows", source);
  if (rows != manifest.rows || rows == 0)
    fail("{}: found {} rows in its shards, expected {}", source, rows, manifest.rows);
  return manifest;
}

StoreManifest read_manifest(const std::filesystem::path& folder) {
  const auto path = folder / kManifestFile;
  if (!std::filesystem::is_directory(folder))
    fail("{}: found no folder, expected an activation store; make one with vyx-harvest",
         folder.string());
  if (!std::filesystem::exists(path))
    fail(
        "{}: found no {}, expected a finished activation store; run vyx-harvest again to finish it",
        folder.string(), kManifestFile);
  return manifest_from_json(read_text_file(path, 256u << 20), path.string());
}

}  // namespace vyx::sae
