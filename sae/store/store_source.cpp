#include "sae/store/store_source.h"

#include <ATen/Functions.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/base/error.h"
#include "core/base/random.h"

namespace vyx::sae {
namespace {

constexpr uint64_t kPassOrderStream = 1;  // of random_bits

}  // namespace

StoreSource::StoreSource(std::shared_ptr<const ActivationStore> store,
                         const StoreSourceOptions& options)
    : store_(std::move(store)),
      options_(options),
      sites_(store_->find(options.sites)),
      // On one thread, so that the cores are left to training.
      prefetcher_(
          [this](uint64_t step) {
            return store_->gather(rows_of(step), sites_, /*parallel=*/false);
          },
          std::max<size_t>(options.prefetch, 1)) {
  if (options.batch < 1) fail("a batch of {} rows; expected at least 1", options.batch);
}

std::vector<uint64_t> StoreSource::rows_of(uint64_t step) const {
  const uint64_t count = store_->rows(), batch = static_cast<uint64_t>(options_.batch);
  std::vector<uint64_t> rows;
  rows.reserve(batch);
  for (uint64_t place = step * batch; rows.size() < batch;) {
    const uint64_t pass = place / count;
    const Permutation order(count, random_bits(options_.seed, kPassOrderStream, pass));
    for (; rows.size() < batch && place / count == pass; ++place)
      rows.push_back(order(place % count));
  }
  return rows;
}

std::vector<SiteNorms> StoreSource::norms() const {
  std::vector<SiteNorms> result;
  for (const size_t index : sites_) {
    const StoreSite& site = store_->manifest().sites[index];
    double center = 0;  // ‖E x‖²
    for (const double mean : site.mean) center += mean * mean;
    result.push_back(
        {.site = site.site,
         .width = site.width,
         .mean_norm = site.norm_mean,
         .center = std::sqrt(center),
         .deviation = std::sqrt(std::max(0.0, site.norm_rms * site.norm_rms - center))});
  }
  return result;
}

Json StoreSource::provenance() const {
  const StoreManifest& manifest = store_->manifest();
  Json json = manifest.recipe;
  Json sites = Json::array();
  for (const size_t site : sites_) sites.push_back(manifest.sites[site].site);
  json["sites"] = sites;
  json["rows"] = manifest.rows;
  json["store_sha256"] = store_->digest();
  json["batch"] = options_.batch;
  json["seed"] = options_.seed;
  return json;
}

}  // namespace vyx::sae
