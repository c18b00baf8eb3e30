#include "tests/torch_support.h"

#include "steering/directions/extract.h"

#include <cmath>

#include "core/base/version.h"
#include "tests/steering/planted_model.h"

namespace {

using namespace vyx::steering;
using namespace vyx::test;

/// Pairs that end in the capital and in the small letter, behind beginnings of different lengths.
ContrastSet letters(int64_t pairs) {
  ContrastSet set{"folder/letters.jsonl", "c0ffee", {}};
  for (int64_t i = 0; i < pairs; ++i) {
    const std::string beginning = "We go on " + std::string(static_cast<size_t>(i % 7), '.');
    set.pairs.push_back(
        {beginning + static_cast<char>('A' + i % 26), beginning + static_cast<char>('a' + i % 26)});
  }
  return set;
}

double cosine(const at::Tensor& a, const at::Tensor& b) {
  return (a.dot(b) / (a.norm() * b.norm())).item<double>();
}

}  // namespace

TEST_CASE("[steering.extract] each method finds the planted direction at every block") {
  auto model = planted_model();
  for (const Method& method : methods()) {
    CAPTURE(method.name);
    const ControlVector vector = extract(model, letters(26), {.method = std::string(method.name)});
    REQUIRE(vector.directions.size() == kBlocks - 1);
    for (const auto& [site, direction] : vector.directions) {
      CAPTURE(site.name());
      // The regression weighs what else tells these few pairs apart, too.
      CHECK(cosine(direction.vector, planted_direction()) >
            (method.name == "logistic" ? 0.7 : 0.98));
      CHECK(direction.statistics.sign_vote_margin == 1);
      CHECK(direction.statistics.held_out_accuracy == 1);
      CHECK(direction.statistics.eigengap > 0.8);
      CHECK(direction.statistics.median_norm > 1);
    }
  }
}

TEST_CASE("[steering.extract] unless it is said where: every block's output but the first one's") {
  auto model = planted_model();
  const auto sites = [&](const std::string& pattern) {
    std::vector<std::string> names;
    for (const SiteDirection& each : extract(model, letters(5), {.sites = pattern}).directions) {
      names.push_back(each.site.name());
    }
    return names;
  };
  CHECK(sites("") == std::vector<std::string>{"model.layers.1:output", "model.layers.2:output"});
  CHECK(sites("model.layers.0") == std::vector<std::string>{"model.layers.0:output"});
  CHECK(sites("model.layers.{1..2}.mlp") ==
        std::vector<std::string>{"model.layers.1.mlp:output", "model.layers.2.mlp:output"});
}

TEST_CASE("[steering.extract] the vector says where it comes from") {
  auto model = planted_model();
  const Provenance made = extract(model, letters(6), {.method = "mean"}).provenance;
  CHECK(made.model_name == "Tiny");
  CHECK(made.model_hint == "llama");
  CHECK(made.model_sha256 == model.config().provenance.sha256);
  CHECK(made.method == "mean");
  CHECK(made.position == "last");
  CHECK(made.contrast_source == "letters.jsonl");
  CHECK(made.contrast_sha256 == "c0ffee");
  CHECK(made.pairs == 6);
  CHECK(made.vyx_version == vyx::kVersion);
}

TEST_CASE("[steering.extract] batches and shared prefixes change nothing beyond rounding") {
  auto model = planted_model();
  const ContrastSet set = letters(26);
  const ControlVector shared = extract(model, set, {.method = "mean"});
  const ControlVector alone =
      extract(model, set,
              {.method = "mean",
               .activations = {.max_batch_tokens = 1, .share_prefixes = false, .on_tokens = {}}});
  for (size_t i = 0; i < shared.directions.size(); ++i) {
    CHECK(at::allclose(shared.directions[i].direction.vector, alone.directions[i].direction.vector,
                       1e-5, 1e-5));
  }
}

TEST_CASE("[steering.extract] a pair with an attention sink on one side is left out, with a line") {
  TinyGguf gguf = planted_gguf();
  embedding_of(gguf, '!').mul_(1000);  // as the first token is, in a trained model
  auto model = tiny_model(gguf);
  const ContrastSet sound = letters(12);
  std::vector<std::string> lines;
  const ExtractOptions options{
      .method = "mean", .on_warning = [&](const std::string& line) { lines.push_back(line); }};
  const ControlVector expected = extract(model, sound, options);
  CHECK(lines.empty());
  ContrastSet set = sound;
  set.pairs.insert(set.pairs.begin() + 3, {"!", "we go on"});
  set.pairs.push_back({"We go on and on", "We stop!"});
  const ControlVector vector = extract(model, set, options);
  REQUIRE(lines.size() == 1);
  CHECK(contains(lines[0], "letters.jsonl: left out 2 of 14 pairs (4, 14)"));
  CHECK(contains(lines[0], "1 of them have a side of one token"));
  CHECK(vector.provenance.pairs == 12);
  for (size_t i = 0; i < vector.directions.size(); ++i)
    CHECK(at::allclose(vector.directions[i].direction.vector,
                       expected.directions[i].direction.vector, 1e-5, 1e-5));
  set.pairs = {{"!", "a"}, {"b", "!"}, {"c", "d!"}};
  CHECK(contains(error_of([&] { (void)extract(model, set, options); }),
                 "letters.jsonl: found no pair that counts: 3 of 3 pairs (1, 2, 3)"));
}

TEST_CASE("[steering.extract] swapping the sides turns the vector round") {
  auto model = planted_model();
  ContrastSet set = letters(10);
  const at::Tensor forwards = extract(model, set).directions[0].direction.vector;
  for (ContrastPair& pair : set.pairs) std::swap(pair.positive, pair.negative);
  CHECK(at::allclose(extract(model, set).directions[0].direction.vector, -forwards, 1e-5, 1e-5));
}

TEST_CASE("[steering.extract] bad contrast sets are refused, with the pair") {
  auto model = planted_model();
  CHECK(contains(error_of([&] {
                   (void)extract(model, {"empty.jsonl", "", {}});
                 }),
                 "empty.jsonl: the contrast set is empty"));
  ContrastSet set = letters(3);
  set.pairs[1].negative = set.pairs[1].positive;
  CHECK(contains(error_of([&] { (void)extract(model, set); }),
                 "letters.jsonl: the two sides of pair 2 are the same tokens"));
}

TEST_CASE("[steering.extract] a site that is not there, and one without a direction, are named") {
  auto model = planted_model();
  CHECK(contains(error_of([&] { (void)extract(model, letters(3), {.sites = "model.layers.9"}); }),
                 "model.layers."));
  ContrastSet same{"same.jsonl", "", {}};
  for (int i = 0; i < 3; ++i) same.pairs.push_back({"A", "a"});
  const std::string error = error_of([&] { (void)extract(model, same, {.method = "pca-diff"}); });
  CHECK(contains(
      error, "model.layers.1:output: pca-diff finds no direction: all 3 differences are equal"));
}

TEST_CASE("[steering.extract] a method that there is not is refused before the model runs") {
  auto model = planted_model();
  uint64_t tokens = 0;
  ExtractOptions options{.method = "median"};
  options.activations.on_tokens = [&](uint64_t count) { tokens += count; };
  CHECK(contains(error_of([&] { (void)extract(model, letters(3), options); }),
                 "unknown method \"median\""));
  CHECK(tokens == 0);
}

TEST_CASE("[steering.extract] a model that overflows is found out") {
  auto model = planted_model();
  for (const auto& parameter : model.module().module().named_parameters()) {
    if (parameter.name == "model.embed_tokens.weight")
      parameter.value[kFirstByte + 'b'].fill_(std::nan(""));
  }
  const std::string error = error_of([&] { (void)extract(model, letters(3)); });
  CHECK(contains(error, "model.layers.1:output"));
  CHECK(contains(error, "prompt 4"));  // the second pair's negative one
}

TEST_CASE("[steering.extract] directions from given activations need both sides for each site") {
  const std::vector<vyx::Site> sites = {vyx::Site::parse("encoder:output"),
                                        vyx::Site::parse("decoder:input")};
  const std::vector<at::Tensor> p = {at::eye(3), 2 * at::eye(3)},
                                n = {-at::ones({3, 3}), at::zeros({3, 3})};
  const std::vector<ContrastActivations> pairs = {{p[0], n[0]}, {p[1], n[1]}};
  const auto found = find_directions(sites, pairs, method_named("mean"));
  REQUIRE(found.size() == 2);
  CHECK(found[0].site == sites[0]);
  CHECK(at::allclose(found[0].direction.vector, at::full({3}, 4.0 / 3)));
  CHECK(found[1].site == sites[1]);
  CHECK(at::allclose(found[1].direction.vector, at::full({3}, 2.0 / 3)));
  CHECK(contains(error_of([&] {
                   (void)find_directions(sites, std::span(pairs).first(1), method_named("mean"));
                 }),
                 "2 sites with the activations of 1"));
}

TEST_CASE("[steering.extract] a pair beyond the context is refused by its place in the file") {
  auto model = planted_model();
  ContrastSet set = letters(3);
  set.pairs[1].negative = std::string(600, 'x');
  CHECK(contains(error_of([&] { (void)extract(model, set); }),
                 "folder/letters.jsonl: pair 2: found 600 tokens"));
  set.places = {"letters.jsonl:1", "letters.jsonl:4", "letters.jsonl:5"};
  CHECK(
      contains(error_of([&] { (void)extract(model, set); }), "letters.jsonl:4: found 600 tokens"));
}
