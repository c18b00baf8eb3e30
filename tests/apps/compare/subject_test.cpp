#include "tests/torch_support.h"

#include <ATen/Functions.h>

#include <cmath>

#include "apps/compare/language_subject.h"
#include "apps/compare/synthetic_subject.h"
#include "core/hooks/activation.h"
#include "core/hooks/token_mask.h"
#include "models/language_model/encode.h"
#include "sae/edits/latent_edit.h"
#include "tests/steering/planted_model.h"

namespace {

using namespace vyx::compare;
using vyx::Edit;
using vyx::Term;

double mean_of(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

}  // namespace

TEST_CASE("[compare.subject] edits that are measured at once give what each gives alone") {
  SyntheticSubject subject;
  const Edit up({Term::add(subject.features()[0] * 2)}),
      down({Term::add(subject.features()[0] * -1)}),
      latent = vyx::sae::edit_latents(
          subject.true_autoencoder(),
          {{{.latent = 3, .kind = vyx::sae::LatentChange::Kind::set, .value = 4}}});
  const std::vector<const Edit*> edits = {&up, nullptr, &latent, &down};
  const auto at_once = subject.preference(Split::test, edits);
  const auto neutral = subject.neutral(Split::selection, edits);
  const auto other = subject.other_preference(1, edits);
  const auto ood = subject.ood_preference(edits);
  const auto choices = subject.choices_right(edits);
  REQUIRE(at_once.size() == edits.size());
  REQUIRE(neutral.size() == edits.size());
  for (size_t i = 0; i < edits.size(); ++i) {
    CAPTURE(i);
    const auto alone = subject.preference(Split::test, edits[i]);
    REQUIRE(at_once[i].size() == alone.size());
    for (size_t item = 0; item < alone.size(); ++item)
      CHECK(at_once[i][item] == doctest::Approx(alone[item]).epsilon(1e-5));
    CHECK(at::allclose(neutral[i].kl, subject.neutral(Split::selection, edits[i]).kl, 1e-4, 1e-6));
    CHECK(mean_of(other[i]) ==
          doctest::Approx(mean_of(subject.other_preference(1, edits[i]))).epsilon(1e-5));
    CHECK(mean_of(ood[i]) ==
          doctest::Approx(mean_of(subject.ood_preference(edits[i]))).epsilon(1e-5));
    CHECK(choices[i] == subject.choices_right(edits[i]));
  }
  // They differ, so that an order that is mixed up shows.
  CHECK(mean_of(at_once[0]) - mean_of(at_once[1]) == doctest::Approx(1).epsilon(1e-3));
  CHECK(mean_of(at_once[3]) - mean_of(at_once[1]) == doctest::Approx(-0.5).epsilon(1e-3));
  CHECK(mean_of(other[2]) > mean_of(other[1]) - 1e-6);
  CHECK(neutral[1].kl.max().item<double>() == 0);
  CHECK(neutral[0].kl.mean().item<double>() > 0.01);
}

TEST_CASE("[compare.subject] without a concept the sides of the pairs are alike") {
  double with = 0, without = 0;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    for (const bool has_concept : {true, false}) {
      SyntheticSubject subject({.has_concept = has_concept, .seed = seed});
      const ContrastActivations& pairs = subject.contrast(Split::extraction);
      const at::Tensor direction = (pairs.positive - pairs.negative).mean(0);  // [width]
      const Edit edit({Term::add(direction / direction.norm())});
      const double effect = mean_of(subject.preference(Split::test, &edit)) -
                            mean_of(subject.preference(Split::test, nullptr));
      (has_concept ? with : without) += effect / 20;
    }
  }
  // Of the logit's gain, 0.5; the neighbour, which comes with the concept, turns the direction
  // away.
  CHECK(with > 0.3);
  CHECK(std::abs(without) < 0.08);  // a mean of 20 draws, each some ±.5/√32
}

TEST_CASE("[compare.subject] a language model is measured behind its begin token, as it is used") {
  LanguageInputs inputs{.site = vyx::Site::parse("model.layers.1:output")};
  inputs.contrast.source = "contrast";
  for (size_t i = 0; i < 8; ++i) {
    const std::string end(1, static_cast<char>('a' + i));
    inputs.contrast.pairs.push_back({"I AM " + end + end, "i am " + end + end});
    inputs.contrast.groups.push_back(i);
    inputs.heldout.pairs.push_back({std::string(4 + i, end[0]) + "?", "YES", "no"});
  }
  inputs.heldout.name = "heldout";
  inputs.neutral = "Some canals carry boats, others water alone. Boats are slow.";
  inputs.instruction = "SHOUT";
  for (const bool add_bos : {false, true}) {
    CAPTURE(add_bos);
    auto model = vyx::test::tiny_model(
        vyx::test::planted_gguf().set("tokenizer.ggml.add_bos_token", add_bos));
    int64_t begun = 0, whole = 0;  // rows of a forward that has nothing before it
    const auto handle = model.module().hook(
        "model.embed_tokens:input", [&](const vyx::Site&, const c10::IValue& value) {
          const at::Tensor ids = *vyx::activation_of(value);  // [rows, seq]
          const vyx::TokenMask* mask = vyx::current_token_mask();
          if (mask->generated.defined()) return std::nullopt;
          for (int64_t row = 0; row < ids.size(0); ++row, ++whole) {
            at::Tensor real = ids[row];
            if (mask->real.defined()) real = real.index({mask->real[row]});
            begun += real[0].item<int64_t>() == model.config().tokens.bos;
          }
          return std::nullopt;
        });
    LanguageSubject subject(model, inputs,
                            {.neutral_tokens = 40, .background_tokens = 40, .window = 10});
    CHECK(whole >= 16 + 4);  // sides of pairs, windows of background
    CHECK(begun == (add_bos ? whole : 0));
    CHECK(subject.neutral_tokens(Split::test) == 20);
    const auto tokens =
        static_cast<int64_t>(vyx::models::encode_text(model, inputs.neutral).size());
    CHECK(subject.background().size(0) == 20 + tokens - 40);
    REQUIRE(subject.notes().size() >= 2);  // few prompts in both halves
    CHECK(subject.notes()[1].starts_with("The test has 4 pairs of 4 prompts"));
    CHECK(subject.instructed()->neutral.kl.size(0) == 20);

    const Edit up({Term::add(vyx::test::planted_direction() * 2)});
    const std::vector<const Edit*> edits = {nullptr, &up};
    const auto preferences = subject.preference(Split::test, edits);
    CHECK(mean_of(preferences[1]) > mean_of(preferences[0]) + 0.1);
    CHECK(subject.neutral(Split::test, edits)[1].kl.mean().item<double>() > 0.01);
  }
}
