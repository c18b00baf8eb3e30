// Metrics on the rows of an activation store.
#pragma once
#include <cstdint>
#include <functional>
#include <string_view>

#include "sae/autoencoder/autoencoder.h"
#include "sae/metrics/metrics.h"
#include "sae/store/activation_store.h"

namespace vyx::sae {

struct StoreMetricsOptions {
  uint64_t rows = 65'536;  // of the store, drawn at random, none of them twice; 0: all
  uint64_t seed = 0;
  std::function<void(uint64_t done, uint64_t total)> on_rows = [](uint64_t, uint64_t) {};
};

/// Measures the autoencoder at its own sites. `source` is its file, for errors. Throws Error when
/// the store is empty, or does not have those sites in those widths.
MetricsAccumulator measure_store(const Autoencoder& sae, const ActivationStore& store,
                                 std::string_view source, const StoreMetricsOptions& options = {});

}  // namespace vyx::sae
