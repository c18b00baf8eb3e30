#include "core/edits/attached_edit.h"
#include "tests/core/hooks/script_fixtures.h"
// torch first
#include <ATen/core/grad_mode.h>

#include <cmath>
#include <limits>

#include "core/edits/edit.h"
#include "core/hooks/token_mask.h"

namespace vyx {
namespace {

using c10::IValue;
using test::contains;
using test::error_of;
using test::random;
using test::same;

const at::Tensor kX = random({2, 3, 4}, 7);  // [batch, seq, d]
const at::Tensor kV = random({4}, 8);        // [d]

at::Tensor unit(const at::Tensor& v) {
  return v / v.norm();
}
bool close(const at::Tensor& a, const at::Tensor& b) {
  return at::allclose(a, b, 1e-5, 1e-6);
}

TEST_CASE("[core.edit] coefficient 0 returns x itself, of any type") {
  const Edit edit({Term::add(kV), Term::ablate(kV)});
  CHECK(edit.apply(kX, at::zeros({})).is_same(kX));
  CHECK(edit.apply_scaled(kX, 0).is_same(kX));
}

TEST_CASE("[core.edit] add is x + c v, in x's type") {
  const Edit edit({Term::add(kV)});
  CHECK(same(edit.apply(kX), kX + kV));
  CHECK(same(edit.apply(kX, at::scalar_tensor(-2.5)), kX + kV * -2.5));
  CHECK(same(Edit({Term::add(kV), Term::add(2 * kV)}).apply(kX),
             kX + (kV.to(at::kDouble) * 3).to(at::kFloat)));
  for (const auto type : {at::kBFloat16, at::kHalf, at::kDouble}) {
    const at::Tensor x = kX.to(type);
    CHECK(same(edit.apply(x, at::scalar_tensor(1.5)), x + (kV * 1.5).to(type)));
  }
}

TEST_CASE("[core.edit] ablate takes the part along the direction out") {
  const at::Tensor v = unit(kV);
  const Edit edit({Term::ablate(3 * kV)});  // normalised
  const at::Tensor y = edit.apply(kX);
  CHECK(close(y, kX - at::matmul(kX, v).unsqueeze(-1) * v));
  CHECK(close(at::matmul(y, v), at::zeros({2, 3})));
  CHECK(close(edit.apply(kX, at::scalar_tensor(0.5)),
              kX - 0.5 * at::matmul(kX, v).unsqueeze(-1) * v));
}

TEST_CASE(
    "[core.edit] clamp removes the positive part along the direction and puts a value there") {
  const at::Tensor v = unit(kV);
  const at::Tensor y = Edit({Term::clamp(kV, 5)}).apply(kX);
  CHECK(close(y, kX - at::relu(at::matmul(kX, v)).unsqueeze(-1) * v + 5 * v));
  const at::Tensor along = kX + 100 * v;  // positive everywhere: set to the value
  CHECK(at::allclose(at::matmul(Edit({Term::clamp(kV, 5)}).apply(along), v), at::full({2, 3}, 5.0),
                     1e-4, 1e-4));
}

TEST_CASE("[core.edit] every gate, with bias, and the latent of a sparse autoencoder") {
  const at::Tensor u = random({4}, 11), w = random({4}, 12);
  const Gate gate{.constant = 0.5, .linear = -1.25, .rectified = 2, .step = 3};
  const Edit edit({{.reader = u, .bias = 0.75, .gate = gate, .writer = w}, Term::add(kV)});
  const at::Tensor z = at::matmul(kX, u) + 0.75;
  const at::Tensor g = 0.5 - 1.25 * z + 2 * at::relu(z) + 3 * at::gt(z, 0).to(at::kFloat);
  CHECK(close(edit.apply(kX, at::scalar_tensor(0.5)), kX + 0.5 * (g.unsqueeze(-1) * w + kV)));
  // setting a latent to t: y = x + (t - relu(z)) w
  const Edit latent(
      {{.reader = u, .bias = 0.75, .gate = {.constant = 4, .rectified = -1}, .writer = w}});
  CHECK(close(latent.apply(kX), kX + (4 - at::relu(z)).unsqueeze(-1) * w));
}

TEST_CASE("[core.edit] coefficients by row, and by row and term") {
  const Edit edit({Term::add(kV), Term::ablate(kV), Term::add(2 * kV)});
  const at::Tensor by_row = at::tensor({0.5, -2.0}, at::kFloat);
  const at::Tensor rows = edit.apply(kX, by_row);
  for (int64_t row = 0; row < 2; ++row) CHECK(close(rows[row], edit.apply(kX[row], by_row[row])));

  const at::Tensor table = at::tensor({1.0, 0.0, 0.5, 0.0, 3.0, -1.0}, at::kFloat).view({2, 3});
  const at::Tensor both = edit.apply(kX, table);
  CHECK(close(both[0], kX[0] + kV + kV));
  CHECK(close(both[1], Edit({Term::ablate(kV)}).apply(kX[1], at::scalar_tensor(3.0)) - 2 * kV));
  CHECK(same(Edit({Term::add(kV)}).apply(kX, at::zeros({2})), kX));

  const at::Tensor flat = random({2, 4}, 3);  // [batch, d]
  CHECK(close(edit.apply(flat, by_row)[1], edit.apply(flat[1], by_row[1])));
  CHECK(contains(error_of([&] { edit.apply(kX, at::ones({3})); }), "one per row [batch]"));
  CHECK(contains(error_of([&] { edit.apply(kX, at::ones({2, 2})); }), "expected [batch, 3]"));
}

TEST_CASE("[core.edit] gradients flow through x") {
  const Edit edit({Term::add(kV), Term::clamp(kV, 2)});
  const at::Tensor x = kX.clone().requires_grad_(true);
  edit.apply(x).sum().backward();
  const at::Tensor v = unit(kV);
  const at::Tensor active = at::gt(at::matmul(kX, v), 0).to(at::kFloat).unsqueeze(-1);
  CHECK(close(x.grad(), 1 - active * v.sum() * v));
}

TEST_CASE("[core.edit] the implicit vector is y - x") {
  const Edit edit({Term::ablate(kV)});
  CHECK(same(implicit_vector(edit, kX), edit.apply(kX) - kX));
  CHECK(close(implicit_vector(Edit({Term::add(kV)}), kX, at::scalar_tensor(2.0)),
              (2 * kV).expand({2, 3, 4})));
}

TEST_CASE("[core.edit] what is no edit is refused, and says why") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(contains(error_of([] { Edit({}); }), "no term"));
  CHECK(contains(error_of([] {
                   Edit({Term::add(kV), Term::add(at::ones({5}))});
                 }),
                 "the writer of term 1 has shape [5], expected [4]"));
  CHECK(contains(
      error_of([] { Edit({{.reader = at::ones({3}), .gate = {.linear = 1}, .writer = kV}}); }),
      "the reader of term 0"));
  CHECK(contains(error_of([] { Edit({{.reader = {}, .gate = {.step = 1}, .writer = kV}}); }),
                 "term 0 has no reader"));
  CHECK(contains(error_of([&] { Edit({Term::add(kV * nan)}); }), "not finite"));
  CHECK(contains(error_of([&] { Edit({Term::clamp(kV, nan)}); }), "bias or gate of nan"));
  CHECK(contains(error_of([] { Term::ablate(at::zeros({4})); }), "norm 0"));
  CHECK(contains(error_of([] { Edit({Term::add(at::ones({2, 2}))}); }), "has shape [2, 2]"));
  const Edit edit({Term::add(kV)});
  CHECK(contains(error_of([&] {
                   edit.apply(at::ones({2, 5}));
                 }),
                 "the activation is [2, 5], expected 4 values"));
  CHECK(contains(error_of([&] { edit.apply(at::ones({4}, at::kLong)); }), "type Long"));
}

TEST_CASE("[core.edit] a term applies only where its condition holds") {
  const at::Tensor u = random({4}, 11), w = random({4}, 12);
  const Condition condition{.reader = w, .bias = -0.25};
  const at::Tensor open = at::gt(at::matmul(kX, w) - 0.25, 0).unsqueeze(-1);  // [batch, seq, 1]
  CHECK(open.any().item<bool>());
  CHECK_FALSE(open.all().item<bool>());
  const Term conditional{
      .reader = {}, .gate = {.constant = 2}, .writer = kV, .condition = condition};
  CHECK(close(Edit({conditional}).apply(kX), at::where(open, kX + 2 * kV, kX)));

  Term ramp{.reader = u,
            .bias = 0.5,
            .gate = {.constant = 1, .rectified = 3},
            .writer = w,
            .condition = condition};
  const at::Tensor z = at::matmul(kX, u).unsqueeze(-1) + 0.5,
                   always = Term::ablate(kV).writer.to(at::kFloat);
  const at::Tensor ablated = at::matmul(kX, always).unsqueeze(-1) * always;
  const Edit edit(
      {conditional, ramp, Term::ablate(kV), Term::add(kV)});  // with and without, in one table
  const at::Tensor expected =
      kX + at::where(open, 2 * kV + (1 + 3 * at::relu(z)) * w, at::zeros({})) - ablated + kV;
  CHECK(close(edit.apply(kX), expected));
  CHECK(edit.table().readers.size(0) == 3);  // the condition is read once
  const at::Tensor table =
      at::tensor({1.0, 0.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0}, at::kFloat).view({2, 4});
  CHECK(close(edit.apply(kX, table)[0], at::where(open[0], kX[0] + 2 * kV, kX[0])));
  CHECK(close(edit.apply(kX, table)[1],
              at::where(open[1], kX[1] + 2 * (1 + 3 * at::relu(z[1])) * w, kX[1])));

  ramp.condition = Condition{.reader = at::ones({3})};
  CHECK(contains(error_of([&] { Edit({ramp}); }),
                 "the condition's reader of term 0 has shape [3], expected [4]"));
  ramp.condition = Condition{.reader = w, .bias = INFINITY};
  CHECK(contains(error_of([&] { Edit({ramp}); }), "bias or gate of inf"));
}

TEST_CASE("[core.edit] terms without a gate keep their place and add nothing") {
  const Edit nothing({{.writer = kV}, {.reader = kV, .gate = {}, .writer = kV}});
  CHECK(nothing.apply(kX).is_same(kX));
  CHECK(nothing.apply(kX, at::ones({2})).is_same(kX));
  CHECK(nothing.apply(kX, at::ones({2, 2})).is_same(kX));
  const Edit second({{.writer = kV}, Term::add(kV)});
  const at::Tensor table = at::tensor({5.0, 0.0, 5.0, 2.0}, at::kFloat).view({2, 2});
  CHECK(close(second.apply(kX, table), at::stack({kX[0], kX[1] + 2 * kV})));
}

TEST_CASE("[core.edit] a readout gives what terms read, and spread and base") {
  const Edit plain({{.gate = {.constant = 2}, .writer = kV},
                    {.bias = -0.5, .gate = {.rectified = 1, .step = 2}, .writer = kV, .column = 1}},
                   test::readout(/*spread=*/false, /*base=*/false));
  const at::Tensor z = kX.select(-1, 2).unsqueeze(-1) - 0.5;  // [batch, seq, 1]
  const at::Tensor terms = 2 * kV + (at::relu(z) + 2 * at::gt(z, 0).to(at::kFloat)) * kV;
  CHECK(close(plain.apply(kX), kX + terms));

  const Edit all(plain.terms(), test::readout(true, true));
  const at::Tensor spread = kX.norm(2, {-1}, true), base = -kX;
  CHECK(close(all.apply(kX), kX + terms * spread + base));
  CHECK(close(all.apply(kX, at::scalar_tensor(0.5)), kX + 0.5 * (terms * spread + base)));
  const at::Tensor by_row = at::tensor({0.5, -2.0}, at::kFloat);
  CHECK(close(all.apply(kX, by_row), kX + by_row.view({2, 1, 1}) * (terms * spread + base)));
  const at::Tensor table =
      at::tensor({1.0, 0.0, 0.0, 0.0}, at::kFloat).view({2, 2});  // the base is whole
  CHECK(close(all.apply(kX, table),
              at::stack({kX[0] + 2 * kV * spread[0] + base[0], kX[1] + base[1]})));
  CHECK(all.apply(kX, at::zeros({})).is_same(kX));
  const at::Tensor half = kX.to(at::kBFloat16);
  CHECK(all.apply(half).dtype() == half.dtype());

  Term conditional{
      .gate = {.constant = 1}, .writer = kV, .condition = Condition{.bias = -0.1, .column = 0}};
  CHECK(close(Edit({conditional}, test::readout(false, false)).apply(kX),
              at::where(kX.select(-1, 1).unsqueeze(-1) > 0.1, kX + kV, kX)));
  conditional.condition->column = 2;
  CHECK(contains(error_of([&] { Edit({conditional}, test::readout(false, false)); }),
                 "has column 2, expected one of the readout's 2"));
  CHECK(contains(error_of([&] { Edit({Term::ablate(kV)}, test::readout(false, false)); }),
                 "the reader of term 0 has column -1"));
}

TEST_CASE("[core.edit] an edit moves to the device of x") {
  const Edit edit({Term::add(kV), Term::ablate(kV)});
  const at::Tensor x = kX.to(at::kMeta);  // a device without data, which every machine has
  for (const at::Tensor& c : {at::Tensor(), at::ones({2})}) {
    const at::Tensor y = edit.apply(x, c);
    CHECK(y.is_meta());
    CHECK(y.sizes() == x.sizes());
  }
  CHECK(edit.to(at::kMeta).device() == at::kMeta);
  CHECK(edit.device() == at::kCPU);
}

// -------------------------------------------------------------------------------------------------
// attached

/// Identity on [batch, seq, d]: what goes in is what the edit sees, what comes out is what it made.
HookedModule identity() {
  torch::jit::Module module("Identity");
  module.define("def forward(self, x: Tensor) -> Tensor:\n    return x\n");
  return HookedModule(module);
}
const Site kOutput{"", Port::output};

TEST_CASE("[core.edit] an attached edit works until its handle ends, and counts") {
  HookedModule module = identity();
  const Edit edit({Term::add(kV)});
  {
    AttachedEdit attached = attach(module, kOutput, edit);
    CHECK(attached.firings() == 0);
    CHECK(error_of([&] { attached.require_fired(); }).starts_with(":output: the edit never fired"));
    CHECK(same(module.forward({kX}).toTensor(), kX + kV));
    attached.set_coefficients(at::scalar_tensor(3.0));
    CHECK(same(module.forward({kX}).toTensor(), kX + 3 * kV));
    attached.set_coefficients(at::zeros({}));
    CHECK(module.forward({kX}).toTensor().is_same(kX));
    CHECK(attached.firings() == 3);
    CHECK(attached.site() == kOutput);
    attached.require_fired();
    AttachedEdit moved = std::move(attached);
    moved.remove();
    CHECK(module.forward({kX}).toTensor().is_same(kX));
    CHECK(moved.firings() == 3);
  }
  const AttachedEdit again =
      attach(module, kOutput, edit, {.coefficients = at::tensor({1.0, -1.0})});
  CHECK(same(module.forward({kX}).toTensor(), edit.apply(kX, at::tensor({1.0, -1.0}))));
}

TEST_CASE(
    "[core.edit] an attached edit changes the first tensor of a tuple, and of the arguments") {
  const at::NoGradGuard no_grad;
  torch::jit::Module pair("Pair");
  pair.define(
      "def forward(self, n: int, x: Tensor) -> Tuple[Tensor, Tensor]:\n    return x, x * n\n");
  HookedModule module(pair);
  const AttachedEdit output = attach(module, kOutput, Edit({Term::add(kV)}));
  auto result = module.forward({2, kX});
  CHECK(same(result.toTupleRef().elements()[0].toTensor(), kX + kV));
  CHECK(same(result.toTupleRef().elements()[1].toTensor(), kX * 2));
  const AttachedEdit input = attach(module, {"", Port::input}, Edit({Term::add(kV)}));
  result = module.forward({2, kX});
  CHECK(same(result.toTupleRef().elements()[1].toTensor(), (kX + kV) * 2));
}

TEST_CASE("[core.edit] padding is never edited") {
  HookedModule module = identity();
  AttachedEdit attached = attach(module, kOutput, Edit({Term::add(kV)}));
  const at::Tensor real = at::tensor({1, 1, 0, 1, 0, 0}).to(at::kBool).view({2, 3});
  {
    const TokenMaskScope scope({.real = real, .generated = {}});
    const at::Tensor y = module.forward({kX}).toTensor();
    CHECK(same(y, at::where(real.unsqueeze(-1), kX + kV, kX)));
    CHECK(attached.firings() == 1);
    {
      const TokenMaskScope none({.real = at::zeros({2, 3}, at::kBool), .generated = {}});
      CHECK(module.forward({kX}).toTensor().is_same(kX));
      CHECK(attached.firings() == 1);  // nothing was to be edited
    }
    CHECK(current_token_mask()->real.is_same(real));
    CHECK(error_of([&] { module.forward({kX.narrow(1, 0, 2)}); }) ==
          ":output: the activation is [2, 2, 4], the token mask is [2, 3]; expected [batch, seq, "
          ".., d] to go with [batch, seq]");
  }
  CHECK(current_token_mask() == nullptr);
  CHECK(same(module.forward({kX}).toTensor(), kX + kV));
}

TEST_CASE("[core.edit] an edit can keep to generated tokens") {
  HookedModule module = identity();
  const AttachedEdit attached =
      attach(module, kOutput, Edit({Term::add(kV)}), {.positions = Positions::generated});
  CHECK(module.forward({kX}).toTensor().is_same(kX));  // no mask: nothing was generated
  {
    const TokenMaskScope prompt({.real = at::ones({2, 3}, at::kBool), .generated = {}});
    CHECK(module.forward({kX}).toTensor().is_same(kX));
  }
  CHECK(contains(error_of([&] { attached.require_fired(); }), "only generated tokens"));
  const at::Tensor real = at::tensor({1, 1, 0, 1, 1, 1}).to(at::kBool).view({2, 3});
  const at::Tensor generated = at::tensor({0, 1, 1, 0, 0, 1}).to(at::kBool).view({2, 3});
  const TokenMaskScope mixed({.real = real, .generated = generated});
  const at::Tensor expected = at::where(real.logical_and(generated).unsqueeze(-1), kX + kV, kX);
  CHECK(same(module.forward({kX}).toTensor(), expected));
  CHECK(attached.firings() == 1);
}

TEST_CASE("[core.edit] a forked branch sees the token mask") {
  const at::NoGradGuard no_grad;
  HookedModule module(test::forked());
  const at::Tensor x = random({2, 3, 4}, 4), plain = module.forward({x}).toTensor();
  const AttachedEdit attached = attach(module, Site::parse("branch"), Edit({Term::add(kV)}));
  const at::Tensor real = at::tensor({1, 0, 0, 1, 1, 0}).to(at::kBool).view({2, 3});
  const TokenMaskScope scope({.real = real, .generated = {}});
  for (int i = 0; i < 20; ++i) {
    CHECK(at::allclose(module.forward({x}).toTensor(),
                       at::where(real.unsqueeze(-1), plain + kV, plain), 1e-5, 1e-6));
  }
}

TEST_CASE("[core.edit] token masks are bool [batch, seq]") {
  CHECK(contains(error_of([] {
                   TokenMaskScope({.real = at::ones({2, 3}), .generated = {}});
                 }),
                 "expected bool [batch, seq]"));
  CHECK(contains(
      error_of([] { TokenMaskScope({.real = at::ones({2}, at::kBool), .generated = {}}); }),
      "[batch, seq]"));
  CHECK(contains(error_of([] {
                   TokenMaskScope({.real = at::ones({2, 3}, at::kBool),
                                   .generated = at::ones({2, 4}, at::kBool)});
                 }),
                 "both are [batch, seq]"));
}

TEST_CASE("[core.edit] edits side by side are each what it is alone, bit for bit") {
  HookedModule module = identity();
  const Edit add({Term::add(kV)}), clamp({Term::clamp(kV, 0.3)}), nothing({Term{.writer = kV}});
  const std::vector<const Edit*> edits = {&clamp, nullptr, &add, &nothing};
  const at::Tensor x = random({8, 3, 4}, 9);  // two rows per edit
  const at::Tensor real = at::rand({8, 3}) < 0.7;
  AttachedEdit attached = attach(module, kOutput, edits);
  for (const auto type : {at::kFloat, at::kBFloat16}) {
    const at::Tensor given = x.to(type);
    const at::Tensor expected = at::cat({clamp.apply(given.slice(0, 0, 2)), given.slice(0, 2, 4),
                                         add.apply(given.slice(0, 4, 6)), given.slice(0, 6, 8)});
    CHECK(same(module.forward({given}).toTensor(), expected));
    const TokenMaskScope scope({.real = real, .generated = {}});
    CHECK(same(module.forward({given}).toTensor(), at::where(real.unsqueeze(-1), expected, given)));
  }
  CHECK(attached.firings() == 4);
  attached.set_coefficients(at::scalar_tensor(2.0));
  CHECK(same(module.forward({x}).toTensor().slice(0, 4, 6),
             add.apply(x.slice(0, 4, 6), at::scalar_tensor(2.0))));

  CHECK(error_of([&] { module.forward({x.slice(0, 0, 6)}); }) ==
        ":output: the activation is [6, 3, 4], expected rows in 4 runs of one length, for as many "
        "edits");
  CHECK(contains(error_of([&] { attached.set_coefficients(at::ones({8})); }),
                 "expected a scalar for 4 edits side by side"));
  CHECK(contains(error_of([&] { (void)attach(module, kOutput, std::span<const Edit* const>{}); }),
                 "found no edit"));
}

TEST_CASE("[core.edit] errors of an attached edit name the site") {
  HookedModule module(test::stack());
  const Site site = Site::parse("layers.1");
  const AttachedEdit attached = attach(module, site, Edit({Term::add(at::ones({5}))}));
  CHECK(error_of([&] {
          module.forward({at::ones({2, 4})});
        }) == "layers.1:output: the activation is [2, 4], expected 5 values in its last dimension");
  CHECK(contains(
      error_of([&] {
        (void)attach(module, site, Edit({Term::add(kV)}), {.coefficients = at::ones({2, 2})});
      }),
      "layers.1:output: the coefficients are [2, 2]"));
  CHECK(contains(
      error_of([&] { (void)attach(module, Site::parse("layers.9"), Edit({Term::add(kV)})); }),
      "no site layers.9:output"));
}

}  // namespace
}  // namespace vyx
