#include "sae/metrics/store_metrics.h"

#include <algorithm>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/base/random.h"

namespace vyx::sae {
namespace {

constexpr uint64_t kRowsAtOnce = 4096;

}  // namespace

MetricsAccumulator measure_store(const Autoencoder& sae, const ActivationStore& store,
                                 std::string_view source, const StoreMetricsOptions& options) {
  const auto open = [&](const std::vector<std::string>& names, int64_t width) {
    const std::vector<size_t> sites = store.find(names);
    if (store.width(sites) != width)
      fail(
          "{}: found rows of width {}, expected {}, that of {}; harvest the autoencoder's own site",
          store.folder().string(), store.width(sites), width, source);
    return sites;
  };
  const std::vector<size_t> inputs = open(sae.config.sites, sae.config.d_in);
  const bool transcoder = !sae.config.target_sites.empty();
  const std::vector<size_t> targets =
      transcoder ? open(sae.config.target_sites, sae.config.d_out) : inputs;

  const uint64_t count = options.rows == 0 ? store.rows() : std::min(options.rows, store.rows());
  if (count == 0)
    fail("{}: found no rows, expected at least one; harvest some text", store.folder().string());
  const Permutation order(store.rows(), options.seed);
  MetricsAccumulator accumulator(sae.config.d_out, sae.config.latents);
  std::vector<uint64_t> rows;
  for (uint64_t first = 0; first < count; first += rows.size()) {
    rows.clear();
    for (uint64_t i = first; i < std::min(count, first + kRowsAtOnce); ++i)
      rows.push_back(order(i));
    std::sort(rows.begin(), rows.end());              // read as they lie
    const at::Tensor x = store.gather(rows, inputs);  // [rows, d_in]
    add(accumulator, sae, x, transcoder ? store.gather(rows, targets) : at::Tensor());
    options.on_rows(first + rows.size(), count);
  }
  return accumulator;
}

}  // namespace vyx::sae
