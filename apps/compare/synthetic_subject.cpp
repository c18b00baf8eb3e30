#include "apps/compare/synthetic_subject.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <numeric>

#include "core/base/random.h"

namespace vyx::compare {
namespace {

constexpr int kOff = 0, kOn = 1, kAsItComes = 2;  // the concept, in a draw
constexpr size_t kWindow = 8;                     // rows of neutral text that count as one window
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
  kAsked,
  kUnrelated
};

at::Generator generator(uint64_t seed, uint64_t stream) {
  return at::detail::createCPUGenerator(random_bits(seed, stream, 0));
}

/// x under each edit [edits, rows, width].
at::Tensor edited(const at::Tensor& x, Edits edits) {
  const at::NoGradGuard no_grad;
  at::Tensor y = at::empty({static_cast<int64_t>(edits.size()), x.size(0), x.size(1)}, x.options());
  for (size_t i = 0; i < edits.size(); ++i)
    y[static_cast<int64_t>(i)].copy_(edits[i] == nullptr ? x : edits[i]->apply(x));
  return y;
}

/// [edits][rows] of [edits, rows] float64.
std::vector<std::vector<double>> rows_of(const at::Tensor& values) {
  const at::Tensor rows = values.contiguous();
  const auto* next = rows.const_data_ptr<double>();
  std::vector<std::vector<double>> result;
  for (int64_t i = 0; i < rows.size(0); ++i, next += rows.size(1))
    result.emplace_back(next, next + rows.size(1));
  return result;
}

}  // namespace

SyntheticSubject::SyntheticSubject(const SyntheticOptions& options)
    : options_(options),
      features_(
          std::get<0>(at::linalg_qr(at::randn({options.width, options.features},
                                              generator(options.seed, kFeatures), at::kFloat)))
              .t()
              .contiguous()),
      readout_(at::cat({features_, at::zeros({1, options.width})}) * options.gain) {
  if (!options.has_concept) {
    const at::Tensor unrelated =
        at::randn({options.width}, generator(options.seed, kUnrelated), at::kFloat);
    readout_[0].copy_(unrelated * (options.gain / unrelated.norm()));
  }
  const int64_t pairs[] = {options.pairs / 2, options.pairs / 4, options.pairs / 4};
  const int with = options.has_concept ? kOn : kAsItComes,
            without = options.has_concept ? kOff : kAsItComes;
  for (uint64_t split = 0; split < 3; ++split)
    contrast_[split] = {draw(pairs[split], with, kContrast + 2 * split, options.others),
                        draw(pairs[split], without, kContrast + 2 * split + 1, options.others)};
  for (uint64_t split = 0; split < 3; ++split) {
    contrast_groups_[split].resize(static_cast<size_t>(pairs[split]));
    std::iota(contrast_groups_[split].begin(), contrast_groups_[split].end(), size_t{0});
  }
  background_ = draw(options.rows, kAsItComes, kBackground, options.others);
  const at::Tensor items = draw(2 * options.items, kOff, kItems, options.others),
                   neutral = draw(options.rows, kAsItComes, kNeutral, options.others);
  for (int64_t half = 0; half < 2; ++half) {
    items_[half] = items.slice(0, half * options.items, (half + 1) * options.items);
    const at::Tensor x = neutral.slice(0, half * options.rows / 2, (half + 1) * options.rows / 2);
    const at::Tensor log_p = x.mm(readout_.t()).log_softmax(-1);  // [rows / 2, features + 1]
    // The text itself: the likeliest token of the unedited model.
    neutral_[half] = {x, log_p, log_p.exp(), log_p.argmax(-1, /*keepdim=*/true)};
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

std::vector<std::vector<double>> SyntheticSubject::feature_preference(const at::Tensor& x,
                                                                      int64_t feature,
                                                                      Edits edits) const {
  return rows_of(edited(x, edits).matmul(readout_[feature]).to(at::kDouble));
}

std::vector<std::vector<double>> SyntheticSubject::preference(Split split, Edits edits) {
  return feature_preference(items_[split == Split::test], 0, edits);
}

at::Tensor SyntheticSubject::preference_slopes(Split) {
  return readout_[0]
      .to(at::kDouble)
      .expand({options_.items, options_.width});  // the logits are linear in x
}

ContrastActivations SyntheticSubject::other_contrast(size_t other) {
  const at::Tensor strength = background_.mv(features_[static_cast<int64_t>(other) + 1]);  // [rows]
  const at::Tensor fires = strength > kReadingThreshold;
  const at::Tensor with = background_.index({fires}),
                   without = background_.index({fires.logical_not()});
  const int64_t pairs = std::min(with.size(0), without.size(0));
  return {with.slice(0, 0, pairs), without.slice(0, 0, pairs)};
}

std::vector<size_t> SyntheticSubject::neutral_windows(Split) const {
  std::vector<size_t> windows(static_cast<size_t>(options_.rows / 2));
  for (size_t i = 0; i < windows.size(); ++i) windows[i] = i / kWindow;
  return windows;
}

std::vector<std::vector<double>> SyntheticSubject::ood_preference(Edits edits) {
  return feature_preference(ood_, 0, edits);
}

std::vector<std::vector<double>> SyntheticSubject::choices_right(Edits edits) {
  const at::Tensor logits = edited(choices_, edits).matmul(readout_.t());
  const at::Tensor asked =
      logits.gather(2, asked_.expand({logits.size(0), -1, -1}));  // [edits, choices, kChoices]
  return rows_of((asked.select(2, 0) > std::get<0>(asked.slice(2, 1).max(2))).to(at::kDouble));
}

std::vector<std::vector<double>> SyntheticSubject::other_preference(size_t other, Edits edits) {
  return feature_preference(items_[1], static_cast<int64_t>(other) + 1, edits);
}

std::vector<steering::NeutralEffect> SyntheticSubject::neutral(Split split, Edits edits) {
  const NeutralHalf& half = neutral_[split == Split::test];
  const at::Tensor after =
      edited(half.x, edits).matmul(readout_.t()).log_softmax(-1);  // [edits, rows, features + 1]
  const at::Tensor gain = after - half.log_p;
  const at::Tensor kl = (after.exp() * gain).sum(-1, false, at::kDouble).clamp_min(0),
                   reverse = (half.p * gain).sum(-1, false, at::kDouble).neg().clamp_min(0),
                   rise = gain.gather(2, half.next.expand({gain.size(0), -1, -1}))
                              .squeeze(2)
                              .to(at::kDouble)
                              .neg();  // each [edits, rows]
  std::vector<steering::NeutralEffect> effects;
  for (int64_t i = 0; i < kl.size(0); ++i) effects.push_back({kl[i], reverse[i], rise[i]});
  return effects;
}

Json SyntheticSubject::provenance() const {
  return {{"synthetic",
           {{"seed", options_.seed},
            {"width", options_.width},
            {"features", options_.features},
            {"pairs", options_.pairs},
            {"neighbour_with_concept", options_.neighbour_with},
            {"neighbour_without_concept", options_.neighbour_without},
            {"has_concept", options_.has_concept}}}};
}

}  // namespace vyx::compare
