#include "tests/torch_support.h"

#include "steering/files/control_vector_file.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>

#include "core/formats/gguf.h"

namespace {

using namespace vyx::steering;
using vyx::test::contains;
using vyx::test::error_of;

SiteDirection direction_at(std::string_view site, std::vector<float> values) {
  Direction direction{at::tensor(values), {}};
  direction.statistics = {{9.25, 1.0 / 3, 1e-300}, 1 - 1.0 / 27.75, 0.875, 0.9, 123.456, 7};
  return {vyx::Site::parse(site), direction};
}

ControlVector example(std::vector<SiteDirection> directions) {
  return {"",
          {"Tiny", "llama", "12ab", "pca-center", "last", "pairs.jsonl", "34cd", 24, "0.1.0"},
          std::move(directions)};
}

// The bits of a double, so that NaN equals itself.
uint64_t bits(double value) {
  return std::bit_cast<uint64_t>(value);
}

void check_equal(const ControlVector& a, const ControlVector& b) {
  CHECK(a.provenance.model_name == b.provenance.model_name);
  CHECK(a.provenance.model_hint == b.provenance.model_hint);
  CHECK(a.provenance.model_sha256 == b.provenance.model_sha256);
  CHECK(a.provenance.method == b.provenance.method);
  CHECK(a.provenance.position == b.provenance.position);
  CHECK(a.provenance.contrast_source == b.provenance.contrast_source);
  CHECK(a.provenance.contrast_sha256 == b.provenance.contrast_sha256);
  CHECK(a.provenance.pairs == b.provenance.pairs);
  CHECK(a.provenance.vyx_version == b.provenance.vyx_version);
  REQUIRE(a.directions.size() == b.directions.size());
  for (size_t i = 0; i < a.directions.size(); ++i) {
    CAPTURE(i);
    const auto &x = a.directions[i], &y = b.directions[i];
    CHECK(x.site == y.site);
    CHECK(at::equal(x.direction.vector, y.direction.vector));
    const DirectionStatistics &s = x.direction.statistics, &t = y.direction.statistics;
    CHECK(s.eigenvalues == t.eigenvalues);
    CHECK(bits(s.eigengap) == bits(t.eigengap));
    CHECK(bits(s.sign_vote_margin) == bits(t.sign_vote_margin));
    CHECK(bits(s.held_out_accuracy) == bits(t.held_out_accuracy));
    CHECK(bits(s.median_norm) == bits(t.median_norm));
    CHECK(s.held_out == t.held_out);
  }
}

// A GGUF file as others write them: `layer_count` in their type, F32 tensors by name.
struct ForeignFile {
  vyx::GgufValue layer_count = uint32_t{2};
  std::string architecture = "controlvector";
  std::vector<std::pair<std::string, std::vector<float>>> tensors = {{"direction.7", {1, 2, 3}},
                                                                     {"direction.10", {4, 5, 6}}};
  std::vector<std::pair<std::string, vyx::GgufValue>> extra{};

  std::filesystem::path write(const std::filesystem::path& path) const {
    std::vector<std::pair<std::string, vyx::GgufValue>> metadata = {
        {"general.architecture", architecture},
        {"controlvector.model_hint", std::string("llama")},
        {"controlvector.layer_count", layer_count}};
    metadata.insert(metadata.end(), extra.begin(), extra.end());
    std::vector<vyx::GgufTensorData> data;
    for (const auto& [name, values] : tensors) {
      data.push_back({name, {values.size()}, vyx::GgmlType::f32, std::as_bytes(std::span(values))});
    }
    vyx::write_gguf(path, metadata, data);
    return path;
  }
};

}  // namespace

TEST_CASE("[steering.control_vector_file] a vector of block outputs survives bit for bit") {
  const vyx::test::TemporaryFolder folder;
  ControlVector vector = example({direction_at("model.layers.8:output", {0.1f, -0.2f, 1e-40f}),
                                  direction_at("model.layers.29:output", {1, 2, 3})});
  vector.directions[1].direction.statistics.held_out_accuracy = std::nan("");
  vector.directions[1].direction.statistics.eigenvalues = {4};
  write_control_vector(vector, folder / "v.gguf");
  const ControlVector read = read_control_vector(folder / "v.gguf");
  check_equal(vector, read);
  CHECK(read.width() == 3);
  CHECK(read.source == (folder / "v.gguf").string());
}

TEST_CASE("[steering.control_vector_file] block outputs are laid out as llama.cpp reads them") {
  const vyx::test::TemporaryFolder folder;
  write_control_vector(example({direction_at("model.layers.8:output", {1, 2}),
                                direction_at("model.layers.9:output", {3, 4})}),
                       folder / "v.gguf");
  const vyx::GgufFile file(folder / "v.gguf");
  CHECK(file->string("general.architecture") == "controlvector");
  CHECK(file->string("controlvector.model_hint") == "llama");
  const vyx::GgufValue* count = file->find("controlvector.layer_count");
  REQUIRE(count);
  REQUIRE(std::holds_alternative<uint32_t>(*count));
  CHECK(std::get<uint32_t>(*count) == 2);
  REQUIRE(file->tensors().size() == 2);
  for (const auto& tensor : file->tensors()) {
    CHECK(tensor.type == vyx::GgmlType::f32);
    CHECK(tensor.shape == std::vector<uint64_t>{2});
  }
  CHECK(file->tensors()[0].name == "direction.8");
  CHECK(file->tensors()[1].name == "direction.9");
  CHECK(contains(file->string("vyx.index_convention"), "model.layers.k:output"));
  CHECK(contains(file->string("vyx.index_convention"), "of the last block: what the final norm"));
}

TEST_CASE(
    "[steering.control_vector_file] what llama.cpp's layout can't say is written so that it "
    "refuses the file") {
  const vyx::test::TemporaryFolder folder;
  for (const auto& [first, second] : {std::pair{"model.layers.0:output", "model.layers.1:output"},
                                      {"model.layers.3:input", "model.layers.4:output"},
                                      {"model.layers.3.mlp:output", "model.layers.4.mlp:output"},
                                      {"encoder.3:output", "decoder.4:output"},
                                      {"model.layers.03:output", "model.layers.4:output"},
                                      {":output", "model.layers.4:output"}}) {
    CAPTURE(first);
    const ControlVector vector =
        example({direction_at(first, {1, 2}), direction_at(second, {3, 4})});
    write_control_vector(vector, folder / "v.gguf");
    check_equal(vector, read_control_vector(folder / "v.gguf"));
    const vyx::GgufFile file(folder / "v.gguf");
    for (const auto& tensor : file->tensors()) CHECK_FALSE(tensor.name.starts_with("direction."));
  }
}

TEST_CASE("[steering.control_vector_file] blocks of another name come back under that name") {
  const vyx::test::TemporaryFolder folder;
  const ControlVector vector = example({direction_at("transformer.h.5:output", {1, 2})});
  write_control_vector(vector, folder / "v.gguf");
  CHECK(vyx::GgufFile(folder / "v.gguf")->find_tensor("direction.5"));
  check_equal(vector, read_control_vector(folder / "v.gguf", "model.layers"));
}

TEST_CASE(
    "[steering.control_vector_file] a file of repeng is read in the order of its blocks, without a "
    "warning") {
  const vyx::test::TemporaryFolder folder;
  ForeignFile foreign;
  std::swap(foreign.tensors[0], foreign.tensors[1]);
  std::string warning;
  const ControlVector vector =
      read_control_vector(foreign.write(folder / "v.gguf"), "transformer.h", &warning);
  CHECK(warning.empty());
  CHECK(vector.provenance.model_hint == "llama");
  CHECK(vector.provenance.model_sha256.empty());
  REQUIRE(vector.directions.size() == 2);
  CHECK(vector.directions[0].site.name() == "transformer.h.7:output");
  CHECK(vector.directions[1].site.name() == "transformer.h.10:output");
  CHECK(at::equal(vector.directions[1].direction.vector, at::tensor({4.f, 5.f, 6.f})));
}

TEST_CASE(
    "[steering.control_vector_file] a file of cvector-generator warns of its shift, and is not "
    "shifted") {
  const vyx::test::TemporaryFolder folder;
  std::string warning;
  const auto path = ForeignFile{.layer_count = int32_t{2}}.write(folder / "v.gguf");
  const ControlVector vector = read_control_vector(path, "model.layers", &warning);
  CHECK(vector.directions.at(0).site.name() == "model.layers.7:output");
  CHECK(contains(warning, "v.gguf: made by llama.cpp's cvector-generator"));
  CHECK(contains(warning, "one block late"));
  CHECK(contains(warning, "k - 1"));
  CHECK(read_control_vector(path).directions.size() == 2);  // a warning that nobody wants
}

TEST_CASE(
    "[steering.control_vector_file] files that are no control vector are refused with their "
    "reason") {
  const vyx::test::TemporaryFolder folder;
  const auto error = [&](const ForeignFile& file) {
    return error_of([&] { read_control_vector(file.write(folder / "v.gguf")); });
  };
  CHECK(contains(error({.architecture = "llama"}),
                 "v.gguf: general.architecture is \"llama\", expected \"controlvector\""));
  CHECK(contains(error({.tensors = {}}), "v.gguf: holds no direction"));
  CHECK(contains(error({.tensors = {{"token_embd.weight", {1}}}}),
                 "\"token_embd.weight\" is not a direction"));
  CHECK(contains(error({.tensors = {{"direction.x", {1}}}}), "\"direction.x\" is not a direction"));
  CHECK(
      contains(error({.tensors = {{"direction.-1", {1}}}}), "\"direction.-1\" is not a direction"));
  CHECK(contains(error({.tensors = {{"direction.1", {1, 2}}, {"direction.2", {1, 2, 3}}}}),
                 "widths differ: 2 at model.layers.1:output and 3 at model.layers.2:output"));
  const float infinity = std::numeric_limits<float>::infinity();
  CHECK(
      contains(error({.tensors = {{"direction.1", {1, std::nanf("")}}}}), "holds NaN or infinity"));
  CHECK(contains(error({.tensors = {{"direction.1", {infinity}}}}),
                 "\"direction.1\" is empty or holds NaN or infinity"));
  CHECK(contains(error_of([&] { read_control_vector(folder / "none.gguf"); }), "none.gguf"));
}

TEST_CASE("[steering.control_vector_file] tensors of another type or shape are refused") {
  const vyx::test::TemporaryFolder folder;
  const std::vector<float> values = {1, 2, 3, 4};
  const auto bytes = std::as_bytes(std::span(values));
  const auto error = [&](const vyx::GgufTensorData& tensor) {
    vyx::write_gguf(folder / "v.gguf", {{"general.architecture", std::string("controlvector")}},
                    {tensor});
    return error_of([&] { read_control_vector(folder / "v.gguf"); });
  };
  CHECK(
      contains(error({"direction.1", {2, 2}, vyx::GgmlType::f32, bytes}), "F32 with 2 dimensions"));
  CHECK(contains(error({"direction.1", {8}, vyx::GgmlType::f16, bytes}),
                 "F16 with 1 dimensions, expected F32 with one"));
}

TEST_CASE("[steering.control_vector_file] our keys must fit the tensors") {
  const vyx::test::TemporaryFolder folder;
  const auto error = [&](ForeignFile file) {
    return error_of([&] { read_control_vector(file.write(folder / "v.gguf")); });
  };
  const std::pair<std::string, vyx::GgufValue> pairs{"vyx.pairs", uint64_t{3}};
  const auto sites = [](std::vector<std::string> names) {
    return std::pair<std::string, vyx::GgufValue>{"vyx.sites", vyx::GgufArray(std::move(names))};
  };
  CHECK(contains(error({.extra = {pairs, sites({"model.layers.7:output"})}}),
                 "2 tensors for 1 sites"));
  CHECK(
      contains(error({.extra = {pairs, sites({"model.layers.7:output", "model.layers.8:output"})}}),
               "direction.8"));
  CHECK(contains(
      error({.extra = {pairs, sites({"model.layers.7:output", "model.layers.10:sideways"})}}),
      "sideways"));
  const auto good = sites({"model.layers.7:output", "model.layers.10:output"});
  CHECK(contains(error({.extra = {pairs, good}}), "vyx.eigengap"));
  CHECK(contains(
      error({.extra = {pairs, good, {"vyx.eigengap", vyx::GgufArray(std::vector<double>{1})}}}),
      "vyx.eigengap has 1 values, expected 2"));
}

TEST_CASE(
    "[steering.control_vector_file] vectors that no file can hold are refused before anything is "
    "written") {
  const vyx::test::TemporaryFolder folder;
  const auto error = [&](const ControlVector& vector) {
    return error_of([&] { write_control_vector(vector, folder / "v.gguf"); });
  };
  CHECK(contains(error(example({})), "holds no direction"));
  CHECK(contains(
      error(example({direction_at("a.1:output", {1}), direction_at("a.2:output", {1, 2})})),
      "widths differ"));
  CHECK(contains(error(example({direction_at("a.1:output", {1}), direction_at("a.1:output", {2})})),
                 "two directions"));
  CHECK_FALSE(std::filesystem::exists(folder / "v.gguf"));
  CHECK(contains(error_of([&] {
                   write_control_vector(example({direction_at("a.1:output", {1})}),
                                        folder / "none" / "v.gguf");
                 }),
                 "none"));
}

TEST_CASE("[steering.control_vector_file] doubts about a direction stand in the file") {
  const vyx::test::TemporaryFolder folder;
  SiteDirection sound = direction_at("model.layers.1:output", {1, 2}),
                guess = direction_at("model.layers.2:output", {3, 4});
  guess.direction.statistics.sign_vote_margin = 0;
  guess.direction.statistics.held_out_accuracy = std::nan("");
  guess.direction.statistics.held_out = 0;
  const ControlVector vector = example({sound, guess});
  write_control_vector(vector, folder / "v.gguf");
  const vyx::GgufFile file(folder / "v.gguf");
  CHECK(file->array<std::string>("vyx.doubts") ==
        std::vector<std::string>{"", "sign is a guess; not judged on held-out pairs"});
  CHECK(doubts_of(read_control_vector(folder / "v.gguf")) ==
        std::vector<std::string>{
            "sign is a guess at 1 of 2 sites: model.layers.2:output",
            "not judged on held-out pairs at 1 of 2 sites: model.layers.2:output"});
  CHECK(doubts_of(example({guess}))[0] == "sign is a guess at model.layers.2:output");
  CHECK(doubts_of(example({guess, guess}))[0] == "sign is a guess at every site");
  CHECK(doubts_of(read_control_vector(ForeignFile{}.write(folder / "foreign.gguf"))).empty());
}
