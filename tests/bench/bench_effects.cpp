// What measuring edits costs, one by one and side by side: the preference of pairs of continuations
// and the KL on neutral text, of vectors at the output of one block.
//
//     bench-effects MODEL PAIRS NEUTRAL BLOCK [TOKENS [EDITS]]
//
// Processor time per edit, since a busy machine stretches the clock.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <fmt/format.h>

#include <cstdio>
#include <ctime>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "core/io/files.h"
#include "steering/effects/effects.h"

namespace {

using namespace vyx;

constexpr size_t kPairs = 14, kOneByOne = 4;
constexpr int64_t kWindow = 128;

double processor_seconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 5) {
    fmt::print(stderr, "usage: bench-effects MODEL PAIRS NEUTRAL BLOCK [TOKENS [EDITS]]\n");
    return 2;
  }
  auto model = models::LanguageModel::load(argv[1]);
  auto pairs = steering::read_continuation_pairs(argv[2]);
  pairs.resize(std::min(pairs.size(), kPairs));
  const Site site = model.block_output(std::stoi(argv[4]));
  const int64_t tokens = argc > 5 ? std::stoi(argv[5]) : 512;
  const size_t most = argc > 6 ? std::stoul(argv[6]) : 32;

  std::vector<Edit> edits;
  for (uint64_t i = 0; i < most; ++i)
    edits.emplace_back(std::vector{
        Term::add(at::randn({model.config().spec.d_model}, at::detail::createCPUGenerator(i),
                            at::TensorOptions(at::kFloat)))});
  std::vector<const Edit*> pointers;
  for (const Edit& edit : edits) pointers.push_back(&edit);

  using Measure = std::function<void(std::span<const Edit* const>)>;
  const auto time = [&](const std::string& what, const Measure& measure) {
    const auto all = std::span<const Edit* const>(pointers);
    measure(all);  // what is computed once
    fmt::print("{}:", what);
    for (const size_t together : {size_t{1}, size_t{8}, most}) {
      const size_t count = together == 1 ? kOneByOne : most;
      const double begin = processor_seconds();
      for (size_t first = 0; first < count; first += together)
        measure(all.subspan(first, std::min(together, count - first)));
      fmt::print("  {:.0f} ms by {}",
                 1000 * (processor_seconds() - begin) / static_cast<double>(count), together);
    }
    fmt::print("\n");
  };
  steering::PreferenceMeter preferences(model, pairs, true, model.block_of(site));
  time(fmt::format("preference of {} pairs, {} tokens", pairs.size(), preferences.tokens()),
       [&](auto some) { preferences.measure(site, some); });
  steering::NeutralMeter neutral(
      model, steering::neutral_windows(model, read_text_file(argv[3]), kWindow, tokens),
      model.block_of(site));
  time(fmt::format("KL on {} tokens", neutral.tokens()),
       [&](auto some) { neutral.measure(site, some); });
}
