#include "apps/compare/synthetic_subject.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/jit/api/module.h>

#include <algorithm>
#include <numeric>

#include "core/base/random.h"
#include "core/edits/attached_edit.h"

namespace vyx::compare {
namespace {

constexpr int kOff = 0, kOn = 1, kAsItComes = 2;  // the concept, in a draw
constexpr double kConceptFrequency = 0.2;         // as it comes
constexpr double kReadingThreshold =
    0.5;  // of the dictionary: above the noise, below a feature's strength
enum SubjectStream : uint64_t {
  kFeatures = 301,
  kContrast,
  kBackground = 310,
  kItems,
  kNeutral,
  kOod,
  kAsked
};

at::Generator generator(uint64_t seed, uint64_t stream) {
  return at::detail::createCPUGenerator(random_bits(seed, stream, 0));
}

/// x [batch, width] → `site` (x as it is) → logits [batch, features + 1].
torch::jit::Module make_model(const at::Tensor& features, double gain) {
  torch::jit::Module site("Site");
  site.define("def forward(self, x: Tensor) -> Tensor:\n    return x\n");
  torch::jit::Module model("Planted");
  model.register_module("site", site);
  model.register_buffer("readout",
                        at::cat({features * gain, at::zeros({1, features.size(1)})}).contiguous());
  model.define(
      "def forward(self, x: Tensor) -> Tensor:\n    return torch.linear(self.site.forward(x), "
      "self.readout)\n");
  model.eval();
  return model;
}

}  // namespace

SyntheticSubject::SyntheticSubject(const SyntheticOptions& options)
    : options_(options),
      features_(
          std::get<0>(at::linalg_qr(at::randn({options.width, options.features},
                                              generator(options.seed, kFeatures), at::kFloat)))
              .t()
              .contiguous()),
      model_(make_model(features_, options.gain)) {
  const int64_t pairs[] = {options.pairs / 2, options.pairs / 4, options.pairs / 4};
  for (uint64_t split = 0; split < 3; ++split)
    contrast_[split] = {draw(pairs[split], kOn, kContrast + 2 * split, options.others),
                        draw(pairs[split], kOff, kContrast + 2 * split + 1, options.others)};
  background_ = draw(options.rows, kAsItComes, kBackground, options.others);
  const at::Tensor items = draw(2 * options.items, kOff, kItems, options.others),
                   neutral = draw(options.rows, kAsItComes, kNeutral, options.others);
  for (int64_t half = 0; half < 2; ++half) {
    items_[half] = items.slice(0, half * options.items, (half + 1) * options.items);
    neutral_[half] = neutral.slice(0, half * options.rows / 2, (half + 1) * options.rows / 2);
  }
  ood_ = draw(options.items, kOff, kOod, std::min(1.0, 3 * options.others));
  // Features 2 … are independent: question i asks for one of them, beside the next ones.
  const at::Tensor question = at::arange(options.choices).unsqueeze(1);  // [choices, 1]
  asked_ =
      (question + at::arange(kChoices)).remainder(options.features - 2) + 2;  // [choices, kChoices]
  choices_ = draw(options.choices, kAsItComes, kAsked, options.others) +
             options.strength * features_.index_select(0, asked_.select(1, 0));  // [choices, width]
  clusters_.resize(static_cast<size_t>(options.items));
  std::iota(clusters_.begin(), clusters_.end(), size_t{0});
}

at::Tensor SyntheticSubject::draw(int64_t rows, int concept_on, uint64_t stream,
                                  double others) const {
  at::Generator random = generator(options_.seed, stream);
  const at::Tensor chance = at::rand({rows, options_.features}, random, at::kFloat);
  at::Tensor fires = chance < others;  // [rows, features]
  const at::Tensor concept_fires = concept_on == kAsItComes
                                       ? chance.select(1, 0) < kConceptFrequency
                                       : at::full({rows}, concept_on == kOn, at::kBool);
  fires.select(1, 0).copy_(concept_fires);
  fires.select(1, 1).copy_(chance.select(1, 1) < at::where(concept_fires, options_.neighbour_with,
                                                           options_.neighbour_without));
  const at::Tensor strengths =
      options_.strength +
      options_.strength_deviation * at::randn({rows, options_.features}, random, at::kFloat);
  const at::Tensor noise = options_.noise * at::randn({rows, options_.width}, random, at::kFloat);
  return (strengths * fires).mm(features_) + noise;
}

sae::Autoencoder SyntheticSubject::true_autoencoder() const {
  sae::Autoencoder sae;
  sae.config = {.architecture = sae::Architecture::relu,
                .d_in = options_.width,
                .d_out = options_.width,
                .latents = options_.features,
                .sites = {site()}};
  sae.weights.encoder = features_.clone();
  sae.weights.encoder_bias = at::full({options_.features}, -kReadingThreshold, at::kFloat);
  sae.weights.decoder = features_.clone();
  sae.weights.decoder_bias = at::zeros({options_.width}, at::kFloat);
  return sae;
}

at::Tensor SyntheticSubject::log_probabilities(const at::Tensor& x, const Edit* edit) {
  const at::NoGradGuard no_grad;
  const auto run = [&] { return model_.forward({x}).toTensor().log_softmax(-1); };
  if (edit == nullptr) return run();
  AttachedEdit attached = attach(model_, Site::parse(site()), *edit);
  at::Tensor result = run();
  attached.require_fired();
  return result;
}

std::vector<double> SyntheticSubject::feature_preference(const at::Tensor& x, int64_t feature,
                                                         const Edit* edit) {
  const at::Tensor log_p = log_probabilities(x, edit);  // [rows, features + 1]
  const at::Tensor preference =
      (log_p.select(1, feature) - log_p.select(1, options_.features)).to(at::kDouble).contiguous();
  return {preference.const_data_ptr<double>(),
          preference.const_data_ptr<double>() + preference.numel()};
}

std::vector<double> SyntheticSubject::preference(Split split, const Edit* edit) {
  return feature_preference(items_[split == Split::test], 0, edit);
}

at::Tensor SyntheticSubject::preference_slopes(Split) {
  return (options_.gain * features_[0])
      .to(at::kDouble)
      .expand({options_.items, options_.width});  // the logits are linear in x
}

at::Tensor SyntheticSubject::other_direction(size_t other) {
  const at::Tensor strength = background_.mv(features_[static_cast<int64_t>(other) + 1]);  // [rows]
  const at::Tensor fires = strength > kReadingThreshold;
  return background_.index({fires}).mean(0) - background_.index({fires.logical_not()}).mean(0);
}

std::vector<double> SyntheticSubject::ood_preference(const Edit* edit) {
  return feature_preference(ood_, 0, edit);
}

std::vector<double> SyntheticSubject::choices_right(const Edit* edit) {
  const at::Tensor asked =
      log_probabilities(choices_, edit).gather(1, asked_);  // [choices, kChoices]
  const at::Tensor right = (asked.select(1, 0) > std::get<0>(asked.slice(1, 1).max(1)))
                               .to(at::kDouble)
                               .contiguous();  // [choices]
  return {right.const_data_ptr<double>(), right.const_data_ptr<double>() + right.numel()};
}

std::vector<double> SyntheticSubject::other_preference(size_t other, const Edit* edit) {
  return feature_preference(items_[1], static_cast<int64_t>(other) + 1, edit);
}

steering::NeutralEffect SyntheticSubject::neutral(Split split, const Edit* edit) {
  const at::Tensor& x = neutral_[split == Split::test];
  const at::Tensor before = log_probabilities(x, nullptr),
                   after = log_probabilities(x, edit);  // [rows, features + 1]
  const at::Tensor gain = after - before;
  // The text itself: the likeliest token of the unedited model.
  const at::Tensor next = before.argmax(-1, /*keepdim=*/true);
  return {(after.exp() * gain).sum(-1, false, at::kDouble).clamp_min(0),
          (-(before.exp() * gain)).sum(-1, false, at::kDouble).clamp_min(0),
          -gain.gather(1, next).squeeze(1).to(at::kDouble)};
}

Json SyntheticSubject::provenance() const {
  return {{"synthetic",
           {{"seed", options_.seed},
            {"width", options_.width},
            {"features", options_.features},
            {"pairs", options_.pairs},
            {"neighbour_with_concept", options_.neighbour_with},
            {"neighbour_without_concept", options_.neighbour_without}}}};
}

}  // namespace vyx::compare
