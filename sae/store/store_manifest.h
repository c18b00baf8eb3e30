// What an activation store says of itself: the file manifest.json in its folder.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/json_guard.h"
#include "core/formats/element_type.h"

namespace vyx::sae {

/// A site's activations, and statistics of all rows that the store holds.
struct StoreSite {
  std::string site;  // "model.layers.14:output"
  int64_t width = 0;
  std::vector<double> mean;  // [width]
  double norm_mean = 0, norm_rms = 0, norm_max = 0;
  double norm_median = 0;     // of the harvest's calibration
  double norm_threshold = 0;  // rows beyond it were left out as attention sinks; 0: none was
};

struct StoreShard {
  uint64_t rows = 0, bytes = 0;
  std::string sha256;  // of the file
};

struct StoreManifest {
  Json recipe = Json::object();    // all that the rows are a function of: model, text, sites,
                                   // options; compared when a harvest is resumed
  Json left_out = Json::object();  // rows that were run and not kept, by reason
  // How far the input was read, and what in it was not as it should be.
  Json input = Json::object();
  ElementType type = ElementType::bf16;  // of the rows: f32, bf16 or f16
  uint64_t rows = 0;
  uint64_t tokens = 0;  // that were run
  std::vector<StoreSite> sites;
  std::vector<StoreShard> shards;
};

constexpr const char* kManifestFile = "manifest.json";
/// "shard-00003.safetensors": one tensor [rows, width] per site, under its name.
std::string shard_file(size_t index);

std::string to_json(const StoreManifest& manifest);
/// Throws Error naming `source` for another format or version, missing keys and sizes that do not
/// fit each other.
StoreManifest manifest_from_json(std::string_view text, std::string_view source);
/// Of the store in `folder`. Throws Error when it is none, or not finished.
StoreManifest read_manifest(const std::filesystem::path& folder);

/// For the state of an unfinished harvest.
Json shards_json(const std::vector<StoreShard>& shards);
std::vector<StoreShard> shards_from_json(const Json& json, std::string_view source);

std::string_view dtype_name(ElementType type);        // "bfloat16"
ElementType type_from_dtype(std::string_view dtype);  // throws UsageError

}  // namespace vyx::sae
