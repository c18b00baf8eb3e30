// The steering library on a command line, for test_steering.py. Arrays are raw little-endian files.
#include <ATen/Functions.h>
#include <ATen/core/Tensor.h>

#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "core/io/files.h"
#include "models/activations/last_token_activations.h"
#include "steering/directions/extract.h"
#include "steering/edits/steer.h"
#include "steering/files/control_vector_file.h"
#include "tests/parity/commands.h"

namespace {

using namespace vyx;
using namespace vyx::steering;
using test::Words;

std::vector<float> floats(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.to(at::kCPU, at::kFloat).contiguous();
  return {flat.const_data_ptr<float>(), flat.const_data_ptr<float>() + flat.numel()};
}

void write_floats(const std::string& path, const at::Tensor& tensor) {
  const std::vector<float> values = floats(tensor);
  const auto bytes = std::as_bytes(std::span(values));
  write_file(path, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

at::Tensor read_doubles(const std::string& path, int64_t rows) {
  const std::string bytes = read_text_file(path, 1u << 30);
  const auto count = static_cast<int64_t>(bytes.size() / sizeof(double));
  at::Tensor values = at::empty({rows, count / rows}, at::kDouble);
  std::memcpy(values.mutable_data_ptr<double>(), bytes.data(), bytes.size());
  return values;
}

Json to_json(const Direction& direction) {
  const DirectionStatistics& s = direction.statistics;
  return {{"vector", floats(direction.vector)},
          {"eigenvalues", s.eigenvalues},
          {"eigengap", s.eigengap},
          {"sign_vote_margin", s.sign_vote_margin}};
}

Json sites_json(const ControlVector& vector) {
  Json sites = Json::object();
  for (const SiteDirection& each : vector.directions)
    sites[each.site.name()] = to_json(each.direction);
  return sites;
}

// METHOD PAIRS POSITIVE.f64 NEGATIVE.f64
Json direction(const Words& words) {
  const int64_t pairs = std::stoll(words.at(1));
  return to_json(
      find_direction({{read_doubles(words.at(2), pairs), read_doubles(words.at(3), pairs)}},
                     method_named(words.at(0)), "direction"));
}

// IN.gguf
Json show(const Words& words) {
  std::string warning;
  const ControlVector vector = read_control_vector(words.at(0), "model.layers", &warning);
  return {{"sites", sites_json(vector)},
          {"model_hint", vector.provenance.model_hint},
          {"warning", warning}};
}

// IN.gguf OUT.gguf
Json rewrite(const Words& words) {
  write_control_vector(read_control_vector(words.at(0)), words.at(1));
  return {};
}

// MODEL PAIRS.jsonl METHOD OUT.gguf
Json extract_vector(const Words& words) {
  auto model = models::LanguageModel::load(words.at(0));
  const ControlVector vector =
      extract(model, read_contrast_set(words.at(1)), {.method = words.at(2)});
  write_control_vector(vector, words.at(3));
  return {{"sites", sites_json(vector)}};
}

// MODEL PAIRS.jsonl SITES OUT.f32: [sites, 2 · pairs, d], positive and negative prompts in turns
Json activations(const Words& words) {
  auto model = models::LanguageModel::load(words.at(0));
  std::vector<std::vector<models::TokenId>> prompts;
  for (const auto& [positive, negative] : read_contrast_set(words.at(1)).pairs) {
    prompts.push_back(model.encode_prompt(positive));
    prompts.push_back(model.encode_prompt(negative));
  }
  const std::vector<Site> sites = model.module().match(words.at(2));
  write_floats(words.at(3), at::stack(models::last_token_activations(model, prompts, sites)));
  return {{"sites", sites.size()}};
}

// MODEL VECTOR.gguf COEFFICIENT TEXT OUT.f32: [seq, vocabulary]
Json logits(const Words& words) {
  auto model = models::LanguageModel::load(words.at(0));
  const std::vector<WeightedVector> vectors = {
      {read_control_vector(words.at(1)), std::stod(words.at(2)), ""}};
  const Steering steering = steer(model, vectors);
  const std::vector<std::vector<models::TokenId>> rows = {model.encode_prompt(words.at(3))};
  write_floats(words.at(4), model.logits(models::make_batch(rows, models::Padding::right, 0)));
  steering.require_fired();
  return {{"tokens", rows[0]}};
}

}  // namespace

int main(int argc, char** argv) {
  return vyx::test::run_command({{"direction", direction},
                                 {"show", show},
                                 {"rewrite", rewrite},
                                 {"extract", extract_vector},
                                 {"activations", activations},
                                 {"logits", logits}},
                                argc, argv);
}
