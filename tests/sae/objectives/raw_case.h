// An autoencoder and a batch that Python wrote: case.json and raw little-endian float32 files named
// as SAELens names the tensors, laid out as vyx lays them out. For the parity test and the
// benchmark.
#pragma once
#include <ATen/ATen.h>

#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/base/json_guard.h"
#include "core/io/files.h"
#include "sae/objectives/objective.h"

namespace vyx::test {

struct RawCase {
  Json json;
  sae::Autoencoder sae;
  at::Tensor x;               // [rows, d]
  sae::ObjectiveInput input;  // x and what is dead
  sae::ObjectiveOptions options;
};

/// Undefined when there is no such file.
inline at::Tensor read_floats(const std::filesystem::path& path, std::vector<int64_t> shape) {
  if (!std::filesystem::exists(path)) return {};
  const std::string bytes = read_text_file(path.string(), int64_t{1} << 33);
  at::Tensor tensor = at::empty(shape, at::kFloat);
  if (bytes.size() != tensor.nbytes())
    fail("{}: found {} bytes, expected {}", path.string(), bytes.size(), tensor.nbytes());
  std::memcpy(tensor.mutable_data_ptr(), bytes.data(), bytes.size());
  return tensor;
}

inline RawCase read_case(const std::filesystem::path& folder) {
  RawCase result{
      .json = parse_json(read_text_file((folder / "case.json").string(), 1 << 20), "case.json")};
  const Json& json = result.json;
  auto& config = result.sae.config;
  config.architecture = sae::architecture_from_name(json.at("architecture").get<std::string>());
  config.d_in = config.d_out = json.at("d").get<int64_t>();
  config.latents = json.at("latents").get<int64_t>();
  config.k = json.value("k", config.k);
  config.prefixes = json.value("prefixes", config.prefixes);
  config.subtract_decoder_bias = json.value("subtract_decoder_bias", true);
  const int64_t d = config.d_in, latents = config.latents;
  sae::for_each_parameter(
      [&](const sae::ParameterKind& kind, at::Tensor& tensor) {
        tensor = read_floats(folder / (std::string(kind.name) + ".f32"), shape_of(kind, config));
      },
      result.sae.weights);
  validate(result.sae, folder.string());
  result.x = result.input.x = read_floats(folder / "x.f32", {json.at("rows").get<int64_t>(), d});
  const at::Tensor dead = read_floats(folder / "dead.f32", {latents});
  if (dead.defined()) result.input.dead = dead > 0;
  auto& o = result.options;
  o.sparsity = json.value("sparsity", o.sparsity);
  o.auxiliary = json.value("auxiliary", o.auxiliary);
  o.auxiliary_k = json.value("auxiliary_k", o.auxiliary_k);
  const auto mode = json.value("jump_relu", std::string("l0"));
  o.jump_relu = mode == "tanh"        ? sae::JumpReluSparsity::tanh
                : mode == "l0_target" ? sae::JumpReluSparsity::l0_target
                                      : sae::JumpReluSparsity::l0;
  o.bandwidth = json.value("bandwidth", o.bandwidth);
  o.l0_target = json.value("l0_target", o.l0_target);
  o.tanh_scale = json.value("tanh_scale", o.tanh_scale);
  o.pre_activation = json.value("pre_activation", o.pre_activation);
  o.pre_activation_of_dead = json.value("pre_activation_of_dead", false);
  o.gated_auxiliary_trains_decoder = json.value("gated_auxiliary_trains_decoder", false);
  o.straight_through_input = json.value("straight_through_input", false);
  o.bfloat16 = json.value("bfloat16", false);
  return result;
}

}  // namespace vyx::test
