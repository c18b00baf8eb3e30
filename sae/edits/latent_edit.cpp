#include "sae/edits/latent_edit.h"

#include <ATen/Functions.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "sae/edits/export.h"

namespace vyx::sae {
namespace {

/// f = slope·relu(z) + jump·[z > 0] with z = reader·x + bias, or z = column of a readout.
struct Ramp {
  at::Tensor reader;  // [d] float64
  int64_t column = -1;
  double bias = 0, slope = 1, jump = 0;
};

double at_index(const at::Tensor& values, int64_t i) {  // [n]
  return values[i].item<double>();
}

/// A latent whose activation depends on one product with x.
Ramp ramp_of(const Autoencoder& sae, int64_t latent) {
  const Parameters& w = sae.weights;
  Ramp ramp{.reader = w.encoder[latent].to(at::kDouble)};
  const double center = sae.config.subtract_decoder_bias
                            ? at::dot(ramp.reader, w.decoder_bias.to(at::kDouble)).item<double>()
                            : 0;  // W_enc,i·b_dec
  const double bias = at_index(w.encoder_bias, latent);
  const ArchitectureTraits& traits = traits_of(sae.config.architecture);
  if (traits.has_gate) {  // of p = W_enc,i·(x − b_dec): open above −b_gate, growing above
                          // −b_mag/e^r_mag
    ramp.slope = std::exp(at_index(w.magnitude_scale, latent));
    const double offset = at_index(w.magnitude_bias, latent);
    const double start = std::max(-bias, -offset / ramp.slope);
    ramp.bias = -center - start;
    ramp.jump = std::max(0.0, ramp.slope * start + offset);
    return ramp;
  }
  if (traits.has_thresholds) ramp.jump = at_index(w.threshold, latent);
  if (traits.has_batch_threshold) ramp.jump = std::max(sae.topk_threshold, 0.0);
  ramp.bias = bias - center - ramp.jump;
  return ramp;
}

/// Where the latents that an edit needs are read.
class LatentReader {
 public:
  LatentReader(const Autoencoder& sae, std::span<const LatentChange> changes, bool keep_error)
      : sae_(sae) {
    const bool plain = !traits_of(sae.config.architecture).latents_compete &&
                       !is_per_token(sae.config.normalization);
    if (plain && keep_error) return;
    ReadoutOptions options{.reconstruction = !keep_error};
    std::vector<at::Tensor> directions;
    for (const LatentChange& change : changes) {
      options.latents.push_back(change.latent);
      if (!change.condition) continue;
      if (change.condition->direction.defined()) {
        directions.push_back(change.condition->direction);
      } else {
        options.latents.push_back(change.condition->latent);
      }
    }
    if (options.latents.empty()) options.latents.push_back(0);  // nothing reads it
    if (!directions.empty()) {
      std::vector<at::Tensor> rows;
      for (const at::Tensor& direction : directions)
        rows.push_back(direction.to(sae.weights.encoder.device(), at::kFloat));
      options.directions = at::stack(rows);
    }
    latents_ = options.latents;
    directions_ = std::move(directions);
    readout_ = export_readout(sae, options);
  }

  Ramp ramp(int64_t latent) const {
    if (!readout_) return ramp_of(sae_, latent);
    const auto found = std::find(latents_.begin(), latents_.end(), latent);
    return {.column = found - latents_.begin()};
  }

  std::optional<Condition> condition(const std::optional<LatentCondition>& given) const {
    if (!given) return std::nullopt;
    if (given->direction.defined()) {
      if (!readout_) return Condition{.reader = given->direction, .bias = -given->above};
      const auto same = [&](const at::Tensor& direction) {
        return direction.is_same(given->direction);
      };
      const auto place =
          std::find_if(directions_.begin(), directions_.end(), same) - directions_.begin();
      return Condition{.bias = -given->above,
                       .column = static_cast<int64_t>(latents_.size()) + place};
    }
    if (given->above < 0) return std::nullopt;  // f is never below 0
    const Ramp f = ramp(given->latent);
    return Condition{.reader = f.reader,
                     .bias = f.bias - std::max(0.0, (given->above - f.jump) / f.slope),
                     .column = f.column};
  }

  const std::optional<Readout>& readout() const { return readout_; }

 private:
  const Autoencoder& sae_;
  std::vector<int64_t> latents_;
  std::vector<at::Tensor> directions_;
  std::optional<Readout> readout_;
};

/// The gates whose sum is f′ − f, by what is added to the ramp's bias.
std::vector<std::pair<double, Gate>> gates_of(const LatentChange& change, const Ramp& f) {
  switch (change.kind) {
    case LatentChange::Kind::set:
      return {{0, {.constant = change.value}}, {0, {.rectified = -f.slope, .step = -f.jump}}};
    case LatentChange::Kind::add:
      return {{0, {.constant = change.value}}};
    case LatentChange::Kind::scale:
      return {
          {0, {.rectified = (change.value - 1) * f.slope, .step = (change.value - 1) * f.jump}}};
    case LatentChange::Kind::clamp:
      break;
  }
  // f′ is low until f gets there, grows as f does, and stops at high.
  const auto clamped = [&](double value) { return std::clamp(value, change.low, change.high); };
  const auto reaches = [&](double value) { return std::max(0.0, (value - f.jump) / f.slope); };
  const double closed = clamped(0), low = reaches(change.low), high = reaches(change.high);
  std::vector<std::pair<double, Gate>> gates{
      {0, {.constant = closed, .rectified = -f.slope, .step = clamped(f.jump) - closed - f.jump}}};
  if (low == 0) {
    gates[0].second.rectified = 0;
  } else if (std::isfinite(low)) {
    gates.push_back({-low, {.rectified = f.slope}});
  }
  if (std::isfinite(high)) gates.push_back({-high, {.rectified = -f.slope}});
  return gates;
}

void require(const Autoencoder& sae, std::span<const LatentChange> changes) {
  const AutoencoderConfig& config = sae.config;
  if (!config.target_sites.empty() || config.d_in != config.d_out)
    fail(
        "the autoencoder reconstructs another activation than it reads (a transcoder); expected "
        "one that reads the site it edits");
  if (config.sites.size() > 1)
    fail("the autoencoder reads {} sites (a crosscoder), expected one; an edit is at one site",
         config.sites.size());
  const auto require_latent = [&](int64_t latent) {
    if (latent < 0 || latent >= config.latents)
      fail("latent {}: the autoencoder has latents 0 to {}", latent, config.latents - 1);
  };
  std::set<int64_t> changed;
  for (const LatentChange& change : changes) {
    require_latent(change.latent);
    if (!changed.insert(change.latent).second)
      fail("latent {}: found two changes of it, expected one", change.latent);
    if (!std::isfinite(change.value))
      fail("latent {}: found the value {}, expected a finite one", change.latent, change.value);
    if (change.kind == LatentChange::Kind::clamp &&
        !(std::isfinite(change.low) && change.low <= change.high))
      fail(
          "latent {}: found a clamp to {} … {}, expected a finite lower bound and no smaller upper "
          "one",
          change.latent, change.low, change.high);
    if (!change.condition) continue;
    const auto& [latent, direction, above] = *change.condition;
    if (!std::isfinite(above))
      fail("latent {}: found a condition above {}, expected a finite number", change.latent, above);
    if (!direction.defined()) {
      require_latent(latent);
    } else if (latent != -1) {
      fail("latent {}: found a condition on both latent {} and a direction, expected one",
           change.latent, latent);
    } else if (direction.dim() != 1 || direction.size(0) != config.d_in) {
      fail(
          "latent {}: found a condition on a direction of {} dimensions and {} values, expected "
          "[{}]",
          change.latent, direction.dim(), direction.numel(), config.d_in);
    }
  }
}

}  // namespace

Edit edit_latents(const Autoencoder& given, std::span<const LatentChange> changes,
                  const LatentEditOptions& options) {
  validate(given, "autoencoder");
  require(given, changes);
  const Autoencoder sae = fold_scale(given);
  const at::Tensor& decoder = sae.weights.decoder;
  std::vector<Term> terms;
  const LatentReader reader(sae, changes, options.keep_error);
  for (const LatentChange& change : changes) {
    const Ramp f = reader.ramp(change.latent);
    const std::optional<Condition> condition = reader.condition(change.condition);
    for (const auto& [shift, gate] : gates_of(change, f))
      terms.push_back({.reader = f.reader,
                       .bias = f.bias + shift,
                       .gate = gate,
                       .writer = decoder[change.latent],
                       .condition = condition,
                       .column = f.column});
  }
  if (terms.empty()) terms.push_back({.writer = decoder[0]});
  return Edit(std::move(terms), reader.readout());
}

}  // namespace vyx::sae
