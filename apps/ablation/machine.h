// What a run depends on besides its files: the processor, which chooses LibTorch's kernels.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace vyx::ablation {

struct Machine {
  std::string cpu;  // "" where /proc does not say
  // Those by which kernels are chosen: avx2, avx512_bf16, amx_tile, …
  std::vector<std::string> flags;
  unsigned cores = 0;
};

Machine this_machine();

/// From the text of /proc/cpuinfo.
Machine parse_cpuinfo(std::string_view text);

}  // namespace vyx::ablation
