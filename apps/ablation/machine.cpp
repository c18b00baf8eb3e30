#include "apps/ablation/machine.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <sstream>
#include <thread>

namespace vyx::ablation {
namespace {

constexpr std::array<std::string_view, 11> kFlags{
    "avx",         "avx2",        "fma",      "avx512f",  "avx512bw", "avx512_vnni",
    "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "asimd"};

}  // namespace

Machine parse_cpuinfo(std::string_view text) {
  Machine machine;
  std::istringstream lines{std::string(text)};
  for (std::string line;
       std::getline(lines, line) && (machine.cpu.empty() || machine.flags.empty());) {
    const auto colon = line.find(": ");
    if (colon == std::string::npos) continue;
    if (line.starts_with("model name") && machine.cpu.empty()) machine.cpu = line.substr(colon + 2);
    if (!line.starts_with("flags") && !line.starts_with("Features")) continue;
    std::istringstream words(line.substr(colon + 2));
    for (std::string word; words >> word;)
      if (std::find(kFlags.begin(), kFlags.end(), word) != kFlags.end())
        machine.flags.push_back(word);
    std::sort(machine.flags.begin(), machine.flags.end());
  }
  return machine;
}

Machine this_machine() {
  std::ifstream file("/proc/cpuinfo");
  std::ostringstream text;
  text << file.rdbuf();
  Machine machine = parse_cpuinfo(text.str());
  machine.cores = std::thread::hardware_concurrency();
  return machine;
}

}  // namespace vyx::ablation
