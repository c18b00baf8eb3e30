// Metrics of autoencoders on a command line, for test_sae_metrics.py. Arrays are raw little-endian
// float32 files.
#include <ATen/Functions.h>
#include <ATen/core/Tensor.h>

#include <cstring>
#include <string>
#include <vector>

#include "core/io/files.h"
#include "sae/metrics/assignment.h"
#include "sae/metrics/matching.h"
#include "sae/metrics/metrics.h"
#include "tests/parity/commands.h"

namespace {

using namespace vyx;
using namespace vyx::sae;
using test::Words;

at::Tensor read_floats(const std::string& path, int64_t rows) {  // [rows, columns]
  const std::string bytes = read_text_file(path, 1u << 30);
  at::Tensor values =
      at::empty({rows, static_cast<int64_t>(bytes.size() / sizeof(float)) / rows}, at::kFloat);
  std::memcpy(values.mutable_data_ptr<float>(), bytes.data(), bytes.size());
  return values;
}

std::vector<int64_t> integers(const at::Tensor& tensor) {
  return {tensor.const_data_ptr<int64_t>(), tensor.const_data_ptr<int64_t>() + tensor.numel()};
}

// ROWS COST.f32
Json assignment(const Words& words) {
  return assign(read_floats(words.at(1), std::stoll(words.at(0))));
}

// LATENTS DECODER.f32 FEATURES FEATURES.f32 TOKENS F.f32 A.f32
Json matching(const Words& words) {
  const int64_t tokens = std::stoll(words.at(4));
  const Matching result = match(read_floats(words.at(1), std::stoll(words.at(0))),
                                read_floats(words.at(3), std::stoll(words.at(2))));
  DetectionCounter counter(result.nearest);
  counter.add(read_floats(words.at(5), tokens), read_floats(words.at(6), tokens));
  const Detection detection = counter.result();
  return {{"mean_matched_cosine", result.mean_matched_cosine},
          {"mean_max_cosine", result.mean_max_cosine},
          {"uniqueness", result.uniqueness},
          {"nearest", integers(result.nearest)},
          {"precision", detection.mean_precision},
          {"recall", detection.mean_recall},
          {"f1", detection.mean_f1}};
}

// TOKENS X.f32 RECONSTRUCTION.f32 F.f32
Json metrics(const Words& words) {
  const int64_t tokens = std::stoll(words.at(0));
  const at::Tensor x = read_floats(words.at(1), tokens), f = read_floats(words.at(3), tokens);
  MetricsAccumulator accumulator(x.size(1), f.size(1));
  accumulator.add(x, read_floats(words.at(2), tokens), f);
  return to_json(accumulator.metrics());
}

}  // namespace

int main(int argc, char** argv) {
  return vyx::test::run_command({{"assign", assignment}, {"match", matching}, {"metrics", metrics}},
                                argc, argv);
}
