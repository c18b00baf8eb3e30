// What changing a latent costs beside encoding all of them, editing and decoding, on the same
// random autoencoders, in turns.
//
//     bench-latent-edit [--json]
//
// One thread, and its processor time: an edit of a token takes less than waking a second one.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <functional>
#include <string>
#include <vector>

#include "core/base/json_guard.h"
#include "sae/edits/latent_edit.h"
#include "tests/sae/random_autoencoder.h"

namespace {

using namespace vyx;
using namespace vyx::sae;

constexpr int64_t kWidth = 576, kLatent = 1234;
constexpr double kValue = 10;

at::Tensor full_path(const Autoencoder& sae, const at::Tensor& x) {
  const at::Tensor f = encode(sae, x);  // [tokens, latents]
  const at::Tensor error = x - decode(sae, f, x);
  at::Tensor changed = f.clone();
  changed.select(-1, kLatent).fill_(kValue);
  return decode(sae, changed, x) + error;
}

double processor_seconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

/// The median of each, measured in turns until that takes `seconds`.
std::vector<double> median_times(const std::vector<std::function<void()>>& works, double seconds) {
  std::vector<std::vector<double>> times(works.size());
  const double begin = processor_seconds();
  for (int round = 0; round < 5 || processor_seconds() - begin < seconds; ++round) {
    for (size_t i = 0; i < works.size(); ++i) {
      const double start = processor_seconds();
      works[i]();
      if (round > 1) times[i].push_back(processor_seconds() - start);
    }
  }
  std::vector<double> medians;
  for (auto& each : times) {
    std::nth_element(each.begin(), each.begin() + static_cast<std::ptrdiff_t>(each.size() / 2),
                     each.end());
    medians.push_back(each[each.size() / 2]);
  }
  return medians;
}

}  // namespace

int main(int argc, char** argv) {
  const bool json = argc > 1 && std::string(argv[1]) == "--json";
  const at::NoGradGuard no_grad;
  at::set_num_threads(1);
  Json rows = Json::array();
  for (const Architecture architecture : {Architecture::jump_relu, Architecture::topk})
    for (const int64_t latents : {9'216, 65'536}) {
      Autoencoder sae = test::random_autoencoder(architecture, kWidth, latents);
      sae.config.k = 32;
      const std::vector<LatentChange> change{{.latent = kLatent, .value = kValue}};
      const Edit edit = edit_latents(sae, change);
      for (const int64_t tokens : {1, 64}) {
        const at::Tensor x = at::randn(
            {1, tokens, kWidth}, at::make_generator<at::CPUGeneratorImpl>(3));  // [batch, seq, d]
        const auto times = median_times({[&] { full_path(sae, x); }, [&] { edit.apply(x); }}, 3);
        const double full = times[0] / static_cast<double>(tokens),
                     ours = times[1] / static_cast<double>(tokens);
        rows.push_back({{"architecture", name_of(architecture)},
                        {"latents", latents},
                        {"tokens", tokens},
                        {"full_seconds_a_token", full},
                        {"edit_seconds_a_token", ours},
                        {"ratio", full / ours}});
        if (!json)
          fmt::print(
              "{:<10} {:>6} latents, {:>3} tokens: full path {:>9.1f} µs per token, edit {:>8.2f} "
              "µs: {:>8.1f} ×\n",
              name_of(architecture), latents, tokens, full * 1e6, ours * 1e6, full / ours);
      }
    }
  if (json) fmt::print("{}\n", rows.dump(2));
  return 0;
}
