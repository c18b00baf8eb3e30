#include "sae/store/harvest_to_store.h"

#include <ATen/Parallel.h>
#include <torch/version.h>

#include <algorithm>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "sae/store/store_writer.h"

namespace vyx::sae {
namespace {

/// Everything that the store's bytes are a function of.
Json recipe_of(const models::Harvest& harvest, const HarvestToStoreOptions& options) {
  Json recipe = harvest.provenance();
  recipe["tokens"] = options.rows;
  recipe["dtype"] = dtype_name(options.type);
  recipe["shard_bytes"] = options.shard_bytes;
  recipe["threads"] = at::get_num_threads();  // a matrix product may sum in another order
  recipe["libtorch"] = TORCH_VERSION;
  return recipe;
}

/// Goes on with a batch of which `rows_done` rows are in the shards.
Json position(Json cursor, int64_t rows_done) {
  return {{"harvest", std::move(cursor)}, {"rows_done", rows_done}};
}

StoreManifest describe(const models::Harvest& harvest) {
  const auto& counts = harvest.counts();
  StoreManifest manifest{.left_out = {{"special", counts.special}, {"sinks", counts.sinks}},
                         .input = harvest.input_cursor(),
                         .tokens = counts.tokens};
  if (harvest.sites().size() > 1) {
    Json at = Json::object();
    for (size_t i = 0; i < harvest.sites().size(); ++i)
      at[harvest.sites()[i].name()] = counts.sinks_at[i];
    manifest.left_out["sinks_at"] = at;
  }
  const double times = harvest.provenance()["sink_threshold"].get<double>();
  for (const double median : harvest.median_norms())
    manifest.sites.push_back({.norm_median = median, .norm_threshold = times * median});
  return manifest;
}

}  // namespace

HarvestToStoreResult harvest_to_store(models::Harvest& harvest, const std::filesystem::path& folder,
                                      const HarvestToStoreOptions& options) {
  if (options.rows == 0) throw UsageError("0 tokens were asked for; expected at least 1");
  // An input that gives nothing leaves nothing: no folder either.
  if (!std::filesystem::exists(folder)) harvest.calibrate();
  std::vector<std::string> sites;
  for (const Site& site : harvest.sites()) sites.push_back(site.name());
  StoreWriter writer(folder, {.recipe = recipe_of(harvest, options),
                              .sites = sites,
                              .type = options.type,
                              .shard_bytes = options.shard_bytes});
  if (writer.finished())
    return {.manifest = *writer.finished(),
            .was_finished = true,
            .resumed_rows = writer.finished()->rows};

  HarvestToStoreResult result{.manifest = {}, .resumed_rows = writer.rows()};
  int64_t done = 0;  // rows of the next batch that are in the shards
  if (const Json& place = writer.position(); !place.is_null()) {
    const std::string source = folder.string() + "'s state";
    harvest.seek(place.value("harvest", Json()));
    done = json_integer(place, "rows_done", source, 0, std::numeric_limits<int64_t>::max());
  }
  harvest.calibrate();
  // A batch that was left half-way is run again even when no more of its rows are wanted: its
  // counts are.
  while (writer.rows() < options.rows || done > 0) {
    const Json before = harvest.cursor();
    const auto batch = harvest.next();
    if (!batch) break;
    const int64_t rows = (*batch)[0].size(0);
    const uint64_t had = writer.rows();
    for (int64_t at = std::exchange(done, 0); at < rows && writer.rows() < options.rows;) {
      const auto wanted = static_cast<int64_t>(
          std::min<uint64_t>(options.rows - writer.rows(), static_cast<uint64_t>(rows - at)));
      at += writer.append(*batch, at, at + wanted);
      if (writer.full())
        writer.seal(at == rows ? position(harvest.cursor(), 0) : position(before, at));
    }
    if (options.on_rows) options.on_rows(writer.rows() - had);
  }
  if (writer.rows() == 0) fail("{}: found no row to keep; give more of it", folder.string());
  result.manifest = writer.finish(describe(harvest));
  return result;
}

}  // namespace vyx::sae
