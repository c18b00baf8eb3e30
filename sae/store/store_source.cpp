#include "sae/store/store_source.h"

#include <ATen/Functions.h>

#include <algorithm>
#include <utility>

#include "core/base/error.h"
#include "core/base/random.h"

namespace vyx::sae {
namespace {

constexpr uint64_t kPassOrderStream = 1, kNormStream = 2;  // of random_bits
constexpr uint64_t kNormRows = 16384;

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
  mean_norm_ = find_mean_norm();
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

double StoreSource::find_mean_norm() const {
  if (sites_.size() == 1) return store_->manifest().sites[sites_[0]].norm_mean;
  const Permutation order(store_->rows(), random_bits(options_.seed, kNormStream, 0));
  std::vector<uint64_t> rows;
  for (uint64_t i = 0; i < std::min(kNormRows, store_->rows()); ++i) rows.push_back(order(i));
  const at::Tensor x = store_->gather(rows, sites_);  // [rows, width]
  return at::linalg_vector_norm(x, 2, at::IntArrayRef{1}).to(at::kDouble).mean().item<double>();
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
