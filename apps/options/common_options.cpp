#include "apps/options/common_options.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>

#include "core/base/error.h"
#include "core/base/text.h"
#include "core/hooks/script_archive.h"

namespace vyx::apps {

void CommonOptions::add_to(OptionTable& option) {
  option("json", json, "print one JSON object on stdout, and nothing else there");
  option("quiet,q", quiet, "no progress, no warnings");
  option("seed", seed, "N", "of everything random");
  option("threads", threads, "N", "CPU threads; 0: one per core");
  option("device", device, "NAME", "cpu, cuda or cuda:N");
  option(
      "trust", trust,
      "load TorchScript archives whose code uses operators that vyx does not know to be harmless");
}

void CommonOptions::apply() const {
  if (threads < 0 || threads > 4096)
    throw UsageError(fmt::format("--threads {}: expected 0 (one per core) to 4096", threads));
  if (threads > 0) at::set_num_threads(threads);
  trust_scripts(trust);
}

c10::Device CommonOptions::torch_device() const {
  c10::Device parsed = c10::kCPU;
  try {
    parsed = c10::Device(device);
  } catch (const c10::Error&) {
    throw UsageError(
        fmt::format("--device {}: no such device, expected cpu, cuda or cuda:N", device));
  }
  if (parsed.is_cuda() && !at::globalContext().hasCUDA())
    fail("--device {}: this LibTorch finds no CUDA device; use --device cpu", device);
  return parsed;
}

void CommonOptions::warn(const std::string& message) const {
  if (!quiet) fmt::print(stderr, "warning: {}\n", printable(message));
}

}  // namespace vyx::apps
