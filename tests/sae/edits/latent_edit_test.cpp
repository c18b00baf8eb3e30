#include "tests/torch_support.h"
// torch first
#include "sae/edits/latent_edit.h"

#include <ATen/core/grad_mode.h>
#include <torch/csrc/jit/serialization/import.h>

#include <cmath>
#include <sstream>

#include "core/edits/bake.h"
#include "sae/edits/export.h"
#include "tests/sae/random_autoencoder.h"

using namespace vyx::sae;
using vyx::Edit;
using vyx::test::contains;
using vyx::test::error_of;
using vyx::test::random_autoencoder;

namespace {

using Kind = LatentChange::Kind;
constexpr int64_t kWidth = 12, kLatents = 40;
constexpr Normalization kNormalizations[] = {Normalization::none, Normalization::scale,
                                             Normalization::token_norm, Normalization::layer_norm};
const at::Tensor kX = vyx::test::normal({3, 7, kWidth}, 5) + 0.3;  // [batch, seq, d]

Autoencoder autoencoder(Architecture architecture,
                        Normalization normalization = Normalization::none, bool subtract = true) {
  Autoencoder sae = random_autoencoder(architecture, kWidth, kLatents, 11);
  sae.topk_threshold = 0.3;
  sae.config.k = 12;
  sae.config.normalization = normalization;
  sae.config.scales = {0.5};
  sae.config.subtract_decoder_bias = subtract;
  return sae;
}

/// Latents that fire on some of kX's tokens and not on others, most evenly first.
std::vector<int64_t> lively(const Autoencoder& sae) {
  const at::Tensor rate = (encode(sae, kX) > 0).to(at::kDouble).mean({0, 1});  // [latents]
  const at::Tensor order = (rate - 0.5).abs().argsort();
  REQUIRE(rate[order[4]].item<double>() > 0.1);
  REQUIRE(rate[order[4]].item<double>() < 0.9);
  return {order.const_data_ptr<int64_t>(), order.const_data_ptr<int64_t>() + order.numel()};
}

/// Encode everything, change f, decode, add the error.
at::Tensor full_path(const Autoencoder& sae, const std::vector<LatentChange>& changes,
                     const at::Tensor& x, bool keep_error = true) {
  const at::Tensor f = encode(sae, x);  // [.., latents]
  at::Tensor changed = f.clone();
  for (const LatentChange& change : changes) {
    const at::Tensor now = f.select(-1, change.latent);  // [..]
    at::Tensor next;
    switch (change.kind) {
      case Kind::set:
        next = at::full_like(now, change.value);
        break;
      case Kind::add:
        next = now + change.value;
        break;
      case Kind::scale:
        next = now * change.value;
        break;
      case Kind::clamp:
        next = now.clamp(change.low, change.high);
    }
    if (const auto& condition = change.condition) {
      const at::Tensor read = condition->direction.defined() ? at::matmul(x, condition->direction)
                                                             : f.select(-1, condition->latent);
      next = at::where(read > condition->above, next, now);
    }
    changed.select(-1, change.latent).copy_(next);
  }
  const at::Tensor y = decode(sae, changed, x);
  return keep_error ? y + (x - decode(sae, f, x)) : y;
}

/// Relative to y's scale.
double difference(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>() / b.abs().max().item<double>();
}

/// Every kind of change, alone, together and under conditions.
std::vector<std::vector<LatentChange>> cases(const Autoencoder& sae) {
  const auto latent = lively(sae);
  const at::Tensor f = encode(sae, kX);  // [batch, seq, latents]
  const auto median = [&](int64_t i) {
    const at::Tensor fired = f.select(-1, i).masked_select(f.select(-1, i) > 0);
    return fired.median().item<double>();
  };
  const at::Tensor direction = vyx::test::normal({kWidth}, 3);  // [d]
  const double half = median(latent[0]),
               other = 0.97 * median(latent[3]);  // of no token: f > f is decided by rounding
  std::vector<std::vector<LatentChange>> all{
      {{.latent = latent[0], .kind = Kind::set, .value = 3}},
      {{.latent = latent[0], .kind = Kind::set, .value = 0}},
      {{.latent = latent[0], .kind = Kind::add, .value = -1.5}},
      {{.latent = latent[0], .kind = Kind::scale, .value = 2.5}},
      {{.latent = latent[0], .kind = Kind::scale, .value = 0}},
      {{.latent = latent[0], .kind = Kind::clamp, .low = 0, .high = half}},
      {{.latent = latent[0], .kind = Kind::clamp, .low = half}},
      {{.latent = latent[0], .kind = Kind::clamp, .low = half / 2, .high = half}},
      {{.latent = latent[0], .kind = Kind::clamp, .low = -2, .high = -1}},
      {{.latent = latent[0], .kind = Kind::clamp, .low = -2, .high = 1e-3}},
      {{.latent = latent[0],
        .kind = Kind::set,
        .value = 2,
        .condition = {{.latent = latent[3], .above = other}}}},
      {{.latent = latent[0], .kind = Kind::add, .value = 2, .condition = {{.latent = latent[3]}}}},
      {{.latent = latent[0],
        .kind = Kind::clamp,
        .low = half,
        .condition = {{.latent = latent[0], .above = -1}}}},
      {{.latent = latent[0],
        .kind = Kind::clamp,
        .low = 0.1,
        .high = half,
        .condition = {{.direction = direction, .above = 0.5}}}},
  };
  std::vector<LatentChange> together;
  for (const size_t i : {0, 2, 3, 7, 10, 13}) {
    together.push_back(all[i][0]);
    together.back().latent = latent[together.size() + 3];
  }
  all.push_back(together);
  return all;
}

template <class Call>
void for_all(Call call) {
  for (const Architecture architecture : vyx::test::all_architectures())
    for (const Normalization normalization : kNormalizations) {
      CAPTURE(name_of(architecture));
      CAPTURE(name_of(normalization));
      call(autoencoder(architecture, normalization));
    }
}

}  // namespace

TEST_CASE(
    "[sae.latent_edit] equals the full path, for every architecture, normalisation and change") {
  for_all([](const Autoencoder& sae) {
    const auto all = cases(sae);
    for (size_t number = 0; number < all.size(); ++number) {
      CAPTURE(number);
      const auto& changes = all[number];
      const at::Tensor expected = full_path(sae, changes, kX);
      CHECK(difference(edit_latents(sae, changes).apply(kX), expected) < 1e-5);
      CHECK(difference(kX, expected) > 1e-3);  // it changes something
      const at::Tensor raw = full_path(sae, changes, kX, /*keep_error=*/false);
      CHECK(difference(edit_latents(sae, changes, {.keep_error = false}).apply(kX), raw) < 1e-5);
    }
  });
  const Autoencoder plain =
      autoencoder(Architecture::jump_relu, Normalization::token_norm, /*subtract=*/false);
  for (const auto& changes : cases(plain))
    CHECK(difference(edit_latents(plain, changes).apply(kX), full_path(plain, changes, kX)) < 1e-5);
}

TEST_CASE("[sae.latent_edit] a readout only where terms cannot say it") {
  for_all([](const Autoencoder& sae) {
    const std::vector<LatentChange> change{{.latent = 3, .value = 1}};
    const auto normalization = sae.config.normalization;
    const bool plain =
        normalization == Normalization::none || normalization == Normalization::scale;
    CHECK(edit_latents(sae, change).readout().has_value() ==
          (!plain || sae.config.architecture == Architecture::topk));
    CHECK(edit_latents(sae, change, {.keep_error = false}).readout().has_value());
  });
}

TEST_CASE(
    "[sae.latent_edit] no intervention is x itself: no change, a change that changes nothing, "
    "coefficient 0") {
  for_all([](const Autoencoder& sae) {
    CHECK(edit_latents(sae, {}).apply(kX).is_same(kX));
    const std::vector<LatentChange> idle{{.latent = 1, .kind = Kind::add, .value = 0},
                                         {.latent = 2, .kind = Kind::scale, .value = 1},
                                         {.latent = 3, .kind = Kind::clamp}};
    CHECK(edit_latents(sae, idle).apply(kX).is_same(kX));
    CHECK(edit_latents(sae, cases(sae).back()).apply(kX, at::zeros({})).is_same(kX));
    CHECK(edit_latents(sae, cases(sae).back(), {.keep_error = false})
              .apply(kX, at::zeros({}))
              .is_same(kX));
    CHECK(difference(edit_latents(sae, {}, {.keep_error = false}).apply(kX), reconstruct(sae, kX)) <
          1e-5);
  });
}

TEST_CASE(
    "[sae.latent_edit] coefficients by row; set's constant comes first and is dosed by its own") {
  for_all([](const Autoencoder& sae) {
    const auto changes = cases(sae).back();
    const Edit edit = edit_latents(sae, changes);
    const at::Tensor rows = at::tensor({0.0, 1.0, -2.0}, at::kFloat);
    const at::Tensor v = full_path(sae, changes, kX) - kX;
    CHECK(difference(edit.apply(kX, rows), kX + rows.view({3, 1, 1}) * v) < 1e-5);
    const auto terms = static_cast<int64_t>(edit.terms().size());
    CHECK(difference(edit.apply(kX, rows.unsqueeze(1).expand({3, terms})),
                     kX + rows.view({3, 1, 1}) * v) < 1e-5);

    const int64_t latent = lively(sae)[0];
    const Edit set = edit_latents(sae, std::vector<LatentChange>{{.latent = latent, .value = 2}});
    REQUIRE(set.terms().size() == 2);
    const at::Tensor doses = at::tensor({0.0, 0.5, 3.0}, at::kFloat);
    const at::Tensor y = set.apply(kX, at::stack({doses, at::ones({3})}, 1));
    for (int64_t row = 0; row < 3; ++row) {
      const std::vector<LatentChange> dosed{
          {.latent = latent, .value = 2 * doses[row].item<double>()}};
      CHECK(difference(y[row], full_path(sae, dosed, kX[row])) < 1e-5);
    }
  });
}

TEST_CASE("[sae.latent_edit] what is baked is what is hooked, bit for bit, reloaded too") {
  const at::NoGradGuard no_grad;
  torch::jit::Module module("Identity");
  module.define("def forward(self, x: Tensor) -> Tensor:\n    return x\n");
  const vyx::Site site{"", vyx::Port::output};
  for_all([&](const Autoencoder& sae) {
    for (const bool keep_error : {true, false}) {
      const Edit edit = edit_latents(sae, cases(sae).back(), {.keep_error = keep_error});
      torch::jit::Module baked = vyx::bake(module, {{site, edit}});
      std::stringstream archive;
      baked.save(archive);
      torch::jit::Module loaded = torch::jit::load(archive);
      for (const auto type : {at::kFloat, at::kBFloat16}) {
        const at::Tensor x = kX.to(type), expected = edit.apply(x);
        CHECK(expected.dtype() == x.dtype());
        for (torch::jit::Module* each : {&baked, &loaded})
          for (int run = 0; run < 3; ++run)
            CHECK(at::equal(each->forward({x}).toTensor(), expected));
      }
    }
  });
}

TEST_CASE("[sae.latent_edit] the exported autoencoder has the same implicit vector") {
  for_all([](const Autoencoder& sae) {
    const auto latent = lively(sae);
    const std::vector<LatentChange> changes{{.latent = latent[0], .value = 3},
                                            {.latent = latent[1], .value = 0}};
    torch::jit::Module module = export_script(sae);
    const auto v = [&] { return module.get_method("implicit_vector")({kX}).toTensor(); };
    CHECK(at::equal(v(), at::zeros_like(kX)));
    for (const LatentChange& change : changes)
      module.get_method("set_latent")({change.latent, change.value});
    const at::Tensor expected = full_path(sae, changes, kX) - kX;
    CHECK(difference(v(), expected) < 1e-5);
    std::stringstream archive;
    module.save(archive);
    CHECK(at::equal(torch::jit::load(archive).get_method("implicit_vector")({kX}).toTensor(), v()));
    module.get_method("clear_latents")({});
    CHECK(at::equal(v(), at::zeros_like(kX)));
    std::string message;
    try {
      module.get_method("set_latent")({kLatents, 1.0});
    } catch (const std::exception& error) {
      message = error.what();
    }
    CHECK(contains(message, "latents 0 to 39"));
  });
}

TEST_CASE("[sae.latent_edit] what cannot be changed is refused, and says why") {
  Autoencoder sae = autoencoder(Architecture::jump_relu);
  const auto error = [&](std::vector<LatentChange> changes) {
    return error_of([&] { edit_latents(sae, changes); });
  };
  CHECK(error({{.latent = 40, .value = 1}}) == "latent 40: the autoencoder has latents 0 to 39");
  CHECK(contains(error({{.latent = -1}}), "latents 0 to 39"));
  CHECK(contains(error({{.latent = 2}, {.latent = 2}}), "latent 2: found two changes"));
  CHECK(contains(error({{.latent = 2, .value = NAN}}), "found the value nan"));
  CHECK(contains(error({{.latent = 2, .kind = Kind::clamp, .low = 2, .high = 1}}),
                 "found a clamp to 2 … 1"));
  CHECK(contains(error({{.latent = 2, .kind = Kind::clamp, .low = -INFINITY, .high = 1}}),
                 "finite lower bound"));
  CHECK(contains(error({{.latent = 2, .condition = {{.latent = 50}}}}), "latent 50"));
  CHECK(contains(error({{.latent = 2, .condition = {{.latent = 3, .above = NAN}}}}),
                 "condition above nan"));
  CHECK(contains(
      error({{.latent = 2, .condition = {{.latent = 3, .direction = at::ones({kWidth})}}}}),
      "expected one"));
  CHECK(contains(error({{.latent = 2, .condition = {{.direction = at::ones({3})}}}}),
                 "expected [12]"));
  sae.config.sites = {"a:output", "b:output"};
  CHECK(contains(error({}), "crosscoder"));
  sae.config.sites = {"a:output"};
  sae.config.target_sites = {"b:output"};
  CHECK(contains(error({}), "transcoder"));
}
