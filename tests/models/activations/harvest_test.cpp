#include "tests/torch_support.h"

#include <cmath>
#include <limits>

#include "core/hooks/activation_reader.h"
#include "core/hooks/token_mask.h"
#include "core/io/files.h"
#include "models/activations/harvest.h"
#include "models/activations/harvest_inputs.h"
#include "tests/models/tiny_model.h"

using namespace vyx;
using namespace vyx::models;
using c10::IValue;
using test::contains;
using test::error_of;
using test::TemporaryFolder;

namespace {

constexpr const char* kText =
    "The first document is here.\n%\nAnother one, a little longer than the "
    "first.\n%\nshort\n%\nAnd the last of them.\n";

std::unique_ptr<HarvestInput> input_of(LanguageModel& model, const std::filesystem::path& file,
                                       const TextInputOptions& options) {
  return text_input(model, TextSource({file}, {.separator = "%"}), options);
}

/// All rows, [rows, d] per site.
std::vector<at::Tensor> all(Harvest& harvest) {
  std::vector<std::vector<at::Tensor>> parts(harvest.sites().size());
  while (auto rows = harvest.next())
    for (size_t i = 0; i < parts.size(); ++i) parts[i].push_back((*rows)[i]);
  std::vector<at::Tensor> result;
  for (const auto& part : parts) result.push_back(at::cat(part));
  return result;
}

/// Rows [rows, 2] go through unchanged, times two at `.double`.
torch::jit::Module doubling_module() {
  const auto unit = std::make_shared<torch::jit::CompilationUnit>();
  torch::jit::Module inner("Double", unit), outer("Outer", unit);
  inner.define("def forward(self, x: Tensor) -> Tensor:\n    return x * 2\n");
  outer.register_module("double", inner);
  outer.define(
      "def forward(self, x: Tensor, y: Tensor) -> Tensor:\n    return self.double.forward(x) + "
      "y\n"
      "def thrice(self, x: Tensor) -> Tensor:\n    return self.double.forward(x * 3)\n");
  return outer;
}

}  // namespace

TEST_CASE("[models.harvest] packed documents give what each gives alone, at every site") {
  const TemporaryFolder folder;
  write_file(folder / "a.txt", kText);
  LanguageModel model = test::tiny_model({.seed = 4});
  const std::vector<Site> sites{model.block_output(0), model.block_output(1),
                                Site::parse("model.layers.1.mlp:input")};
  // One row holds them all, so that no document is cut.
  Harvest harvest(input_of(model, folder / "a.txt", {.context = 200}),
                  {.sites = sites, .sink_threshold = 0});
  const auto rows = all(harvest);

  std::vector<std::vector<at::Tensor>> expected(sites.size());
  TextSource source({folder / "a.txt"}, {.separator = "%"});
  for (std::string document; source.next(document);) {
    const std::vector<std::vector<TokenId>> row{model.tokenizer().encode(document)};
    for (size_t i = 0; i < sites.size(); ++i)
      expected[i].push_back(
          capture(model.module(), sites[i].name(), {make_batch(row, Padding::right, 0).ids})
              .begin()
              ->second[0][0]);
  }
  for (size_t i = 0; i < sites.size(); ++i) {
    const at::Tensor alone = at::cat(expected[i]);
    REQUIRE(rows[i].sizes() == alone.sizes());
    CHECK((rows[i] - alone).abs().max().item<double>() < 1e-5 * alone.abs().max().item<double>());
  }
  CHECK(harvest.counts().tokens == static_cast<uint64_t>(rows[0].size(0)));
}

TEST_CASE("[models.harvest] each row says its token and its place among the rows that were run") {
  const TemporaryFolder folder;
  write_file(folder / "a.txt", kText);
  LanguageModel model = test::tiny_model({.seed = 4});
  constexpr int64_t kContext = 16;
  TextSource source({folder / "a.txt"}, {.separator = "%"});
  Packer packer(std::move(source), model.tokenizer(),
                {.context = kContext, .pad_token = model.pad_token()});
  std::vector<at::Tensor> ids;  // [rows, 16] a forward of two
  while (const auto batch = packer.next(2)) ids.push_back(batch->ids);
  const at::Tensor packed = at::cat(ids).reshape({-1});  // with the last row's padding

  Harvest harvest(
      input_of(model, folder / "a.txt", {.context = kContext, .batch_tokens = 2 * kContext}),
      {.sites = {model.block_output(2)}, .sink_threshold = 1.2});
  std::vector<at::Tensor> tokens, places;
  while (const auto rows = harvest.next()) {
    CHECK(harvest.tokens().sizes() == at::IntArrayRef{(*rows)[0].size(0)});
    tokens.push_back(harvest.tokens());
    places.push_back(harvest.places());
  }
  REQUIRE(harvest.counts().sinks > 0);  // so that places have gaps
  const at::Tensor all_places = at::cat(places);
  CHECK(at::equal(at::cat(tokens), packed.index({all_places})));
  CHECK((all_places.diff() > 0).all().item<bool>());
  CHECK(static_cast<uint64_t>(all_places.size(0)) ==
        harvest.counts().tokens - harvest.counts().sinks);

  Harvest numbers(
      tensor_input(HookedModule(doubling_module()),
                   {{"x", at::ones({5, 2})}, {"y", at::ones({5, 1})}}, {.batch = 2}, {}),
      {.sites = {Site::parse("double")}, .sink_threshold = 0});
  REQUIRE(numbers.next());
  REQUIRE(numbers.next());
  CHECK_FALSE(numbers.tokens().defined());
  CHECK(at::equal(numbers.places(), at::tensor({2, 3}, at::kLong)));
}

TEST_CASE("[models.harvest] attention sinks are left out at all sites together, and counted") {
  const TemporaryFolder folder;
  write_file(folder / "a.txt", kText);
  LanguageModel model = test::tiny_model({.seed = 4});
  const std::vector<Site> sites{model.block_output(0), model.block_output(2)};
  Harvest everything(input_of(model, folder / "a.txt", {.context = 16, .batch_tokens = 48}),
                     {.sites = sites, .sink_threshold = 0});
  const auto rows = all(everything);
  at::Tensor keep;
  std::vector<double> medians;
  for (const at::Tensor& site : rows) {
    const at::Tensor norms = site.norm(2, 1);
    medians.push_back(norms.median().item<double>());
    const at::Tensor below = norms <= 1.2 * medians.back();
    keep = keep.defined() ? keep & below : below;
  }
  REQUIRE(keep.sum().item<int64_t>() < rows[0].size(0));

  Harvest harvest(input_of(model, folder / "a.txt", {.context = 16, .batch_tokens = 48}),
                  {.sites = sites, .sink_threshold = 1.2});
  const auto kept = all(harvest);
  CHECK(harvest.median_norms()[0] == medians[0]);
  CHECK(harvest.median_norms()[1] == medians[1]);
  for (size_t i = 0; i < sites.size(); ++i) CHECK(at::equal(kept[i], rows[i].index({keep})));
  CHECK(harvest.counts().sinks ==
        static_cast<uint64_t>(rows[0].size(0) - keep.sum().item<int64_t>()));
  CHECK(harvest.mean_norms()[0] == doctest::Approx(kept[0].norm(2, 1).mean().item<double>()));
}

TEST_CASE("[models.harvest] the calibration looks at the first rows only") {
  const TemporaryFolder folder;
  write_file(folder / "a.txt", kText);
  LanguageModel model = test::tiny_model({.seed = 4});
  const std::vector<Site> sites{model.block_output(2)};
  Harvest harvest(input_of(model, folder / "a.txt", {.context = 16, .batch_tokens = 16}),
                  {.sites = sites, .calibration_rows = 10});
  const auto first = harvest.next();
  Harvest everything(input_of(model, folder / "a.txt", {.context = 16, .batch_tokens = 16}),
                     {.sites = sites, .sink_threshold = 0});
  CHECK(harvest.median_norms()[0] == (*everything.next())[0].norm(2, 1).median().item<double>());
}

TEST_CASE("[models.harvest] special tokens are left out, or kept when asked for") {
  const TemporaryFolder folder;
  write_file(folder / "a.txt", "abc<|im_end|>def");
  LanguageModel model = test::tiny_model();
  const TextInputOptions options{.context = 32, .special_in_text = true};
  Harvest without(input_of(model, folder / "a.txt", options),
                  {.sites = {model.block_output(0)}, .sink_threshold = 0});
  CHECK(all(without)[0].size(0) == 6);
  CHECK(without.counts().special == 1);
  CHECK(without.counts().tokens == 7);
  Harvest with(input_of(model, folder / "a.txt", options),
               {.sites = {model.block_output(0)}, .keep_special = true, .sink_threshold = 0});
  CHECK(all(with)[0].size(0) == 7);
  CHECK(with.counts().special == 0);
}

TEST_CASE("[models.harvest] a cursor goes on with the same rows and counts") {
  const TemporaryFolder folder;
  write_file(folder / "a.txt", kText);
  LanguageModel model = test::tiny_model({.seed = 4});
  const HarvestOptions options{
      .sites = {model.block_output(1)}, .sink_threshold = 1.2, .calibration_rows = 20};
  const TextInputOptions input{.context = 8, .batch_tokens = 16};
  Harvest whole(input_of(model, folder / "a.txt", input), options);
  whole.calibrate();
  std::vector<Json> cursors{whole.cursor()};
  std::vector<at::Tensor> rows;
  while (const auto next = whole.next()) {
    rows.push_back((*next)[0]);
    cursors.push_back(whole.cursor());
  }
  REQUIRE(rows.size() > 4);
  for (size_t i = 0; i < rows.size(); ++i) {
    Harvest again(input_of(model, folder / "a.txt", input), options);
    again.seek(parse_json(cursors[i].dump(), "cursor"));
    for (size_t k = i; k < rows.size(); ++k) CHECK(at::equal((*again.next())[0], rows[k]));
    CHECK(!again.next());
    CHECK(again.cursor() == cursors.back());
  }
  Harvest passing(input_of(model, folder / "a.txt", input), options);
  passing.calibrate();
  CHECK(passing.pass(3) == 3);
  CHECK(at::equal((*passing.next())[0], rows[3]));
  CHECK(passing.pass(1000) == rows.size() - 4);
  passing.rewind();
  CHECK(at::equal((*passing.next())[0], rows[0]));
}

TEST_CASE("[models.harvest] any module harvests from tensors or from a callback") {
  const HookedModule module(doubling_module());
  const at::Tensor x = at::arange(1, 21, at::kFloat).reshape({10, 2}), y = at::ones({10, 2});
  const HarvestOptions options{.sites = {Site::parse("double:output")}, .sink_threshold = 0};
  for (const int64_t batch : {1, 3, 10, 99}) {
    Harvest harvest(
        tensor_input(module, {{"x", x}, {"y", y}}, {.batch = batch}, {{"module", "double"}}),
        options);
    CHECK(at::equal(all(harvest)[0], x * 2));
    CHECK(harvest.provenance()["module"] == "double");
  }
  Harvest harvest(argument_input(module,
                                 [&](uint64_t forward) -> std::optional<Arguments> {
                                   if (forward == 2) return std::nullopt;
                                   return Arguments{x * static_cast<double>(forward), y};
                                 },
                                 {}),
                  options);
  CHECK(at::equal(all(harvest)[0], at::cat({at::zeros_like(x), x * 2})));
  CHECK(contains(error_of([&] {
                   tensor_input(module, {{"x", x}, {"y", y.narrow(0, 0, 3)}}, {.source = "in"}, {});
                 }),
                 "in: y: found 3 rows, expected 10, as many as x"));
  CHECK(contains(error_of([&] { tensor_input(module, {}, {}, {}); }), "found no tensor"));
  CHECK(contains(error_of([&] {
                   tensor_input(module, {{"x", x}, {"y", at::zeros({})}}, {}, {});
                 }),
                 "y: found shape [], expected [n, ..] of n examples, at least 1"));
}

TEST_CASE(
    "[models.harvest] a harvest runs what its input names: method, keywords, mask, no gradients") {
  /// Two forwards of a method of its own, the second of which fails.
  class Input : public HarvestInput {
   public:
    Input() : module_(doubling_module()) {}
    HookedModule& module() override { return module_; }
    std::optional<HarvestForward> next() override {
      const at::Tensor real = at::tensor({1, 0, 1}, at::kLong).to(at::kBool).view({1, 3});
      ++forward_;
      return HarvestForward{
          .call = {.method = "thrice", .arguments = {}, .tokens = {.real = real, .generated = {}}},
          .keywords = {{"x", forward_ == 2 ? IValue(7) : IValue(x)}},
          .facts = {.real = real, .special = {}, .tokens = {}}};
    }
    uint64_t pass(uint64_t) override { return 0; }
    Json cursor() const override { return {}; }
    void seek(const Json&) override {}
    std::string where() const override { return "forward"; }
    Json provenance() const override { return {}; }

    const at::Tensor x = at::arange(6, at::kFloat).view({1, 3, 2}).requires_grad_(true);

   private:
    HookedModule module_;
    int forward_ = 0;
  };
  auto input = std::make_unique<Input>();
  const at::Tensor x = input->x;
  bool masked = false, gradients = true;
  const HookHandle sees = input->module().hook("double", [&](const Site&, const IValue& value) {
    masked = current_token_mask() != nullptr && current_token_mask()->real.defined();
    gradients = value.toTensor().requires_grad();
    return std::optional<IValue>();
  });
  Harvest harvest(std::move(input),
                  {.sites = {Site::parse("double")}, .sink_threshold = 0, .calibration_rows = 1});
  harvest.seek({{"input", Json()},
                {"tokens", 0},
                {"special", 0},
                {"sinks", 0},
                {"sinks_at", {0}},
                {"median_norms", {1.0}},
                {"mean_norms", {1.0}}});
  const at::Tensor expected = 6 * x.detach()[0].index_select(0, at::tensor({0, 2}, at::kLong));
  CHECK(at::equal((*harvest.next())[0], expected));
  CHECK(masked);
  CHECK_FALSE(gradients);
  CHECK(contains(error_of([&] { harvest.next(); }), "Outer.thrice: "));
  CHECK(harvest.counts().tokens == 2);
  CHECK(at::equal((*harvest.next())[0], expected));  // nothing of the failed run is left
  CHECK(harvest.counts().tokens == 4);
}

TEST_CASE("[models.harvest] activations that are not finite are refused, naming site and input") {
  const HookedModule module(doubling_module());
  at::Tensor x = at::ones({4, 2});
  x[2][1] = std::nan("");
  Harvest harvest(tensor_input(module, {{"x", x}, {"y", x}}, {.batch = 2}, {}),
                  {.sites = {Site::parse("double:output")}, .calibration_rows = 1});
  CHECK(harvest.next());
  const std::string error = error_of([&] { harvest.next(); });
  CHECK(contains(error, "double:output: found NaN or infinity in the activations of forward 2"));
  x[2][1] = -std::numeric_limits<double>::infinity();
  Harvest masked(tensor_input(module, {{"x", x}, {"y", x}}, {.batch = 4}, {}),
                 {.sites = {Site::parse("double:output")}, .calibration_rows = 1});
  CHECK(contains(error_of([&] { masked.next(); }),
                 "found −infinity in the activations of forward 1"));
}

// ------------------------------------------------------------------------------------------------
// modules that are no language models

namespace {

/// A module of that source alone, with what its source needs.
torch::jit::Module module_of(const std::string& forward) {
  torch::jit::Module module("Net");
  module.register_attribute("state", c10::TensorType::get(), at::zeros({1, 2}));
  module.register_buffer("seen", at::zeros({1}));
  module.define(forward);
  return module;
}

Harvest harvest_of(const torch::jit::Module& module, const NamedTensors& inputs,
                   const TensorInputOptions& options = {}, const char* site = ":output") {
  return Harvest(tensor_input(HookedModule(module), inputs, options, {}),
                 {.sites = {Site::parse(site)}, .sink_threshold = 0, .calibration_rows = 4});
}

}  // namespace

TEST_CASE("[models.harvest] arguments go by name, and those left out are their defaults") {
  const torch::jit::Module module = module_of(
      "def forward(this, x: Tensor, mask: Optional[Tensor] = None, bias: Optional[Tensor] = None) "
      "-> Tensor:\n"
      "    if mask is not None:\n        x = x * mask\n"
      "    if bias is not None:\n        x = x + bias\n    return x\n");
  const at::Tensor x = at::rand({5, 2}), bias = at::rand({5, 2});
  Harvest harvest = harvest_of(module, {{"x", x}, {"bias", bias}});
  CHECK(at::equal(all(harvest)[0], x + bias));
  CHECK(error_of([&] {
          harvest_of(module, {{"bias", bias}}, {.source = "in.st"});
        }) ==
        "in.st: found no tensor x, expected one per parameter of the module's forward: x, mask?, "
        "bias?");
  CHECK(error_of([&] {
          harvest_of(module, {{"x", x}, {"y", x}});
        }) ==
        "the inputs: found a tensor y, expected those that the module's forward takes: x, mask?, "
        "bias?");
  torch::jit::Module coder("Coder");
  coder.define("def encode(self, x: Tensor) -> Tensor:\n    return x\n");
  CHECK(contains(error_of([&] {
                   harvest_of(coder, {{"x", x}});
                 }),
                 "the module has no method forward, which would take them; it has encode"));
}

TEST_CASE("[models.harvest] a mask leaves out the rows of padding, also one that is no argument") {
  const torch::jit::Module module =
      module_of("def forward(self, x: Tensor) -> Tensor:\n    return x * 2\n");
  const at::Tensor x = at::rand({3, 4, 2}),
                   mask = at::tensor({1, 1, 1, 1, 1, 1, 0, 0, 1, 0, 0, 0}, at::kLong).view({3, 4});
  for (const int64_t batch : {1, 2, 5}) {
    Harvest harvest = harvest_of(module, {{"x", x}, {"mask", mask}}, {batch, "mask"});
    CHECK(at::equal(all(harvest)[0], (x * 2).index({mask != 0})));
    CHECK(harvest.counts().tokens == 7);
    CHECK(harvest.provenance()["mask"] == "mask");
  }
  const auto refused = [&](const at::Tensor& other, const char* name = "mask") {
    return error_of([&] {
      Harvest harvest = harvest_of(module, {{"x", x}, {"mask", other}}, {.mask = name});
      harvest.next();
    });
  };
  CHECK(contains(refused(mask * 2), "mask: found other values than 0, padding, and 1"));
  CHECK(contains(refused(mask.view({3, 2, 2})), "found shape [3, 2, 2], expected a mask [3, seq]"));
  CHECK(contains(refused(mask, "real"), "found no tensor real to be the mask"));
  CHECK(contains(refused(mask.narrow(1, 0, 3)),
                 "found shape [3, 4, 2], expected positions [3, 3] before the last dimension, "
                 "those of the input's tokens"));
}

TEST_CASE("[models.harvest] rows of two sites belong together, and images are refused") {
  torch::jit::Module a = module_of("def forward(self, x: Tensor) -> Tensor:\n    return x\n");
  torch::jit::Module b = module_of(
      "def forward(self, x: Tensor) -> Tensor:\n    return x.transpose(1, 2)[:, :, :4]\n");
  torch::jit::Module module("Net");
  module.register_module("a", a);
  module.register_module("b", b);
  module.define(
      "def forward(self, x: Tensor) -> Tensor:\n    return self.b.forward(self.a.forward(x))\n");
  const auto error = [&](const at::Tensor& x, std::vector<Site> sites) {
    return error_of([&] {
      Harvest(tensor_input(HookedModule(module), {{"x", x}}, {}, {}), {.sites = std::move(sites)})
          .next();
    });
  };
  const Site first = Site::parse("a"), second = Site::parse("b");
  CHECK(contains(error(at::rand({4, 8, 2}), {first, second}),
                 "b:output: found shape [4, 2, 4], expected positions [4, 8] before the last "
                 "dimension, those of a:output"));
  CHECK(contains(error(at::rand({2, 8, 4, 4}), {first}),
                 "a:output: found shape [2, 8, 4, 4], expected at most 3 dimensions"));
  Harvest harvest(tensor_input(HookedModule(module), {{"x", at::rand({4, 8, 2})}}, {}, {}),
                  {.sites = {first}});
  CHECK(harvest.readings().empty());
  harvest.next();
  REQUIRE(harvest.readings().size() == 1);
  CHECK(harvest.readings()[0].shape == std::vector<int64_t>{4, 8, 2});
  CHECK(harvest.readings()[0].place.empty());
}

TEST_CASE("[models.harvest] a module that keeps state begins fresh, and goes on where it was") {
  const at::Tensor x = at::rand({7, 2});
  for (const char* source :
       {"def forward(self, x: Tensor) -> Tensor:\n    y = x + self.state\n"
        "    self.state = self.state * 0.5 + x.mean(0, keepdim=True)\n    return y\n",
        "def forward(self, x: Tensor) -> Tensor:\n    self.seen.add_(x.sum())\n"
        "    return x + self.seen\n"}) {
    // What a module does without vyx.
    torch::jit::Module plain = module_of(source);
    std::vector<at::Tensor> expected;
    for (int64_t i = 0; i < 7; ++i)
      expected.push_back(plain.forward({x.narrow(0, i, 1)}).toTensor().clone());

    const torch::jit::Module module = module_of(source);
    Harvest harvest = harvest_of(module, {{"x", x}}, {.batch = 1});
    harvest.calibrate();  // which runs four forwards
    const Json beginning = harvest.cursor();
    std::vector<Json> cursors;
    for (int64_t i = 0; i < 7; ++i) {
      cursors.push_back(harvest.cursor());
      CHECK(at::equal((*harvest.next())[0], expected[static_cast<size_t>(i)]));
    }
    CHECK(at::equal(module.attr("seen").toTensor(), at::zeros({1})));  // the original's is its own
    for (const size_t i : {0, 3, 6}) {
      Harvest again = harvest_of(module_of(source), {{"x", x}}, {.batch = 1});
      again.seek(parse_json(cursors[i].dump(), "cursor"));
      CHECK(at::equal((*again.next())[0], expected[i]));
    }
    Harvest passing = harvest_of(module_of(source), {{"x", x}}, {.batch = 1});
    passing.calibrate();
    CHECK(passing.pass(5) == 5);
    CHECK(at::equal((*passing.next())[0], expected[5]));
    harvest.rewind();
    CHECK(at::equal((*harvest.next())[0], expected[0]));
  }
}

TEST_CASE("[models.harvest] state that changes behind the site is kept too") {
  torch::jit::Module up = module_of("def forward(self, x: Tensor) -> Tensor:\n    return x * 2\n");
  torch::jit::Module module("Net");
  module.register_module("up", up);
  module.register_attribute("state", c10::TensorType::get(), at::zeros({1, 2}));
  module.define(
      "def forward(self, x: Tensor) -> Tensor:\n    y = self.up.forward(x + self.state)\n"
      "    self.state = torch.tanh(y.mean(0, keepdim=True))\n    return y\n");
  const at::Tensor x = at::rand({3, 2});
  Harvest harvest = harvest_of(module, {{"x", x}}, {.batch = 1}, "up");
  const at::Tensor rows = all(harvest)[0];
  for (int64_t i = 0; i < 3; ++i)
    CHECK(at::equal(rows[i], module.forward({x.narrow(0, i, 1)}).toTensor()[0]));
}

TEST_CASE(
    "[models.harvest] the seed is that of the module's random operators, forward by forward") {
  const torch::jit::Module module =
      module_of("def forward(self, x: Tensor) -> Tensor:\n    return x + torch.randn_like(x)\n");
  const at::Tensor x = at::zeros({6, 2});
  const auto rows = [&](uint64_t seed) {
    Harvest harvest = harvest_of(module, {{"x", x}}, {.batch = 2, .seed = seed});
    return all(harvest)[0];
  };
  const at::Tensor once = rows(7);
  CHECK(at::equal(rows(7), once));
  CHECK_FALSE(at::equal(rows(8), once));
  CHECK_FALSE(at::equal(once.narrow(0, 0, 2), once.narrow(0, 2, 2)));
  Harvest again = harvest_of(module, {{"x", x}}, {.batch = 2, .seed = 7});
  again.calibrate();
  again.pass(2);
  CHECK(at::equal((*again.next())[0], once.narrow(0, 4, 2)));
}

TEST_CASE("[models.harvest] where most rows are zero nothing is a sink, and sinks count per site") {
  torch::jit::Module a = module_of("def forward(self, x: Tensor) -> Tensor:\n    return x\n");
  torch::jit::Module b =
      module_of("def forward(self, x: Tensor) -> Tensor:\n    return torch.relu(x - 2.5)\n");
  torch::jit::Module module("Net");
  module.register_module("a", a);
  module.register_module("b", b);
  module.define(
      "def forward(self, x: Tensor) -> Tensor:\n    return self.b.forward(self.a.forward(x))\n");
  at::Tensor x = at::ones({50, 2});
  x.narrow(0, 0, 9).fill_(3);  // at b: nine rows that are not zero
  const auto harvested = [&](double threshold) {
    Harvest harvest(tensor_input(HookedModule(module), {{"x", x}}, {}, {}),
                    {.sites = {Site::parse("a"), Site::parse("b")}, .sink_threshold = threshold});
    const int64_t rows = all(harvest)[0].size(0);
    return std::pair(rows, harvest.counts());
  };
  CHECK(harvested(10).first == 50);
  const auto [rows, counts] = harvested(2);  // at a: the nine
  CHECK(rows == 41);
  CHECK(counts.sinks == 9);
  CHECK(counts.sinks_at == std::vector<uint64_t>{9, 0});
}

TEST_CASE("[models.harvest] nothing to harvest is refused") {
  const TemporaryFolder folder;
  write_file(folder / "empty.txt", " \n\n");
  LanguageModel model = test::tiny_model();
  Harvest harvest(input_of(model, folder / "empty.txt", {}), {.sites = {model.block_output(0)}});
  CHECK(contains(error_of([&] { harvest.next(); }), "found no row"));
  CHECK(contains(error_of([&] { input_of(model, folder / "empty.txt", {.context = 4096}); }),
                 "context of 4096"));
  CHECK(contains(error_of([&] { Harvest(input_of(model, folder / "empty.txt", {}), {}); }),
                 "no sites"));
  CHECK(contains(error_of([&] {
                   write_file(folder / "a.txt", kText);
                   Harvest tokens(input_of(model, folder / "a.txt", {}),
                                  {.sites = {Site::parse("model.embed_tokens:input")}});
                   tokens.next();
                 }),
                 "model.embed_tokens:input: found"));
}
