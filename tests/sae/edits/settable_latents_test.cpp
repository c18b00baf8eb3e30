#include "tests/torch_support.h"
// torch first
#include "sae/edits/settable_latents.h"

#include <ATen/core/grad_mode.h>
#include <torch/csrc/jit/serialization/import.h>

#include <sstream>

#include "core/hooks/hooked_module.h"
#include "tests/sae/random_autoencoder.h"

using namespace vyx::sae;
using vyx::Edit;
using vyx::test::contains;
using vyx::test::random_autoencoder;

namespace {

using Kind = LatentChange::Kind;
constexpr int64_t kWidth = 12;
const vyx::Site kSite{"", vyx::Port::output};
const at::Tensor kX = vyx::test::normal({2, 5, kWidth}, 5);  // [batch, seq, d]

torch::jit::Module identity() {
  torch::jit::Module module("Identity");
  module.define("def forward(self, x: Tensor) -> Tensor:\n    return x\n");
  return module;
}

}  // namespace

TEST_CASE(
    "[sae.settable_latents] latents set from outside equal those of an edit, bit for bit, reloaded "
    "too") {
  const at::NoGradGuard no_grad;
  for (const Architecture architecture :
       {Architecture::topk, Architecture::jump_relu, Architecture::gated})
    for (const Normalization normalization : {Normalization::none, Normalization::layer_norm})
      for (const bool keep_error : {true, false}) {
        Autoencoder sae = random_autoencoder(architecture, kWidth, 40);
        sae.config.normalization = normalization;
        const LatentEditOptions options{.keep_error = keep_error};
        std::vector<LatentChange> changes{{.latent = 3, .kind = Kind::scale, .value = 2},
                                          {.latent = 7, .value = 4},
                                          {.latent = 8, .value = 0},
                                          {.latent = 9, .value = 2, .condition = {{.latent = 11}}}};
        const std::vector<vyx::SiteEdit> others{
            {kSite, Edit({vyx::Term::add(at::ones({kWidth}))})}};
        torch::jit::Module baked = bake_latents(identity(), others, kSite, sae, changes, options);
        const auto expected = [&] {  // in the module's order: what can be set comes first
          std::vector<LatentChange> ordered(changes.begin() + 1, changes.end());
          ordered.push_back(changes[0]);
          return edit_latents(sae, ordered, options).apply(others[0].edit.apply(kX));
        };
        const auto agrees = [&] {
          std::stringstream archive;
          baked.save(archive);
          const at::Tensor y = baked.forward({kX}).toTensor();
          return at::equal(y, expected()) &&
                 at::equal(torch::jit::load(archive).forward({kX}).toTensor(), y);
        };
        CHECK(agrees());
        for (const auto& [change, value] :
             {std::pair<size_t, double>{1, -1.5}, {2, 3.25}, {3, 0.1}, {1, 4}}) {
          changes[change].value = value;
          baked.run_method("set_latent", changes[change].latent, value);
          CHECK(agrees());
        }
        baked.run_method("clear_latent", int64_t{7});
        changes[1] = {.latent = 7, .kind = Kind::scale, .value = 1};
        CHECK(at::allclose(baked.forward({kX}).toTensor(), expected(), 1e-5, 1e-6));
        baked.run_method("set_coefficient", 0.0);
        CHECK(at::equal(baked.forward({kX}).toTensor(), kX));
      }
}

TEST_CASE("[sae.settable_latents] another latent's error names those that there are") {
  const Autoencoder sae = random_autoencoder(Architecture::relu, kWidth, 40);
  const std::vector<LatentChange> changes{{.latent = 3, .value = 2},
                                          {.latent = 8, .value = 1},
                                          {.latent = 9, .kind = Kind::add, .value = 1}};
  torch::jit::Module baked = bake_latents(identity(), {}, kSite, sae, changes);
  for (const int64_t latent : {4, 9}) {
    std::string message;
    try {
      baked.run_method("set_latent", latent, 1.0);
    } catch (const std::exception& error) {
      message = error.what();
    }
    CHECK(contains(message, "cannot be set in this model, which has 3, 8"));
  }
  const std::vector<LatentChange> fixed{{.latent = 9, .kind = Kind::add, .value = 1}};
  CHECK_FALSE(
      bake_latents(identity(), {}, kSite, sae, fixed).find_method("set_latent").has_value());
}
