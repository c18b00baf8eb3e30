#include "models/activations/harvest.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <limits>
#include <map>
#include <utility>

#include "core/base/error.h"
#include "core/hooks/activation.h"

namespace vyx::models {
namespace {

constexpr const char* kCursor = "harvest's cursor";

at::Tensor norms_of(const at::Tensor& rows) {  // [rows, d] -> [rows]
  return at::linalg_vector_norm(rows, 2, at::IntArrayRef{1});
}

at::Tensor select(const at::Tensor& rows,
                  const at::Tensor& keep) {  // [rows, ..], [rows] bool -> [kept, ..]
  return keep.all().item<bool>() ? rows : rows.index({keep});
}

double mean_of(const at::Tensor& values) {
  return values.to(at::kDouble).mean().item<double>();
}

uint64_t count_of(const at::Tensor& mask) {
  return static_cast<uint64_t>(mask.sum().item<int64_t>());
}

std::vector<double> numbers(const Json& json, const char* key, size_t count) {
  const auto found = json.find(key);
  if (found == json.end() || !found->is_array() || found->size() != count ||
      !std::all_of(found->begin(), found->end(), [](const Json& item) { return item.is_number(); }))
    fail("{}: found {} = {}, expected {} numbers", kCursor, key,
         found == json.end() ? "nothing" : found->dump(), count);
  return found->get<std::vector<double>>();
}

}  // namespace

void validate(const HarvestOptions& options) {
  if (options.sites.empty()) throw UsageError("there are no sites; give at least one");
  if (!(options.sink_threshold >= 0))
    throw UsageError(
        fmt::format("a sink threshold of {}; expected 0 or more", options.sink_threshold));
  if (options.calibration_rows < 1)
    throw UsageError(
        fmt::format("{} calibration rows; expected at least 1", options.calibration_rows));
}

/// What a forward gave, without padding and special tokens.
struct Harvest::Kept {
  std::vector<at::Tensor> rows;   // [rows, d] a site, float32
  std::vector<at::Tensor> norms;  // [rows] a site, float32
  at::Tensor tokens;              // [rows] int64, or undefined
  at::Tensor places;              // [rows] int64: in the forward
  int64_t of = 0;                 // how many rows the forward had, with padding

  void select_places(const at::Tensor& keep) {  // [rows] bool
    if (tokens.defined()) tokens = select(tokens, keep);
    if (places.defined()) places = select(places, keep);
  }
};

/// The hooks, and what they saw in the forward that is running.
struct Harvest::Capture {
  Capture(HookedModule& module, std::span<const Site> sites) : seen(sites.size()) {
    for (size_t i = 0; i < sites.size(); ++i) index[sites[i]] = i;
    handle = module.hook(
        sites, [this](const Site& site, const c10::IValue& value) -> std::optional<c10::IValue> {
          if (listening) take(site, value);
          return std::nullopt;
        });
  }

  void take(const Site& site, const c10::IValue& value) {
    const auto activation = activation_of(value);  // [.., d]
    if (!activation || activation->dim() < 1 || !activation->is_floating_point())
      fail("{}: found {}, expected an activation [.., d]; choose another site", site.name(),
           activation ? fmt::format("shape [{}]", fmt::join(activation->sizes(), ", "))
                      : "no tensor");
    at::Tensor& place = seen[index.at(site)];
    if (place.defined())
      fail("{}: found a second call in one forward, expected one; choose another site",
           site.name());
    // A copy, since the module may go on to write in place.
    place = activation->reshape({-1, activation->size(-1)})
                .to(at::kCPU, at::kFloat, false, /*copy=*/true);
  }

  std::map<Site, size_t> index;
  std::vector<at::Tensor> seen;  // [rows, d] a site
  bool listening = false;
  HookHandle handle;  // last, so that no hook outlives what it refers to
};

Harvest::Harvest(std::unique_ptr<HarvestInput> input, HarvestOptions options)
    : input_(std::move(input)), options_(std::move(options)) {
  validate(options_);
  capture_ = std::make_unique<Capture>(input_->module(), options_.sites);
}

Harvest::Harvest(Harvest&&) noexcept = default;
Harvest::~Harvest() = default;

std::optional<Harvest::Kept> Harvest::run() {
  const at::NoGradGuard no_grad;
  std::fill(capture_->seen.begin(), capture_->seen.end(), at::Tensor());
  capture_->listening = true;
  const auto rows = input_->run();
  capture_->listening = false;
  if (!rows) return std::nullopt;

  const auto flat = [](const at::Tensor& mask) {
    return mask.defined() ? mask.reshape({-1}) : mask;
  };
  const at::Tensor real = flat(rows->real), special = flat(rows->special);  // [rows] bool
  at::Tensor keep = real;
  if (special.defined() && !options_.keep_special)
    keep = real.defined() ? real & ~special : ~special;

  Kept kept;
  int64_t count = real.defined() ? real.size(0) : special.defined() ? special.size(0) : -1;
  for (size_t i = 0; i < options_.sites.size(); ++i) {
    const std::string site = options_.sites[i].name();
    const at::Tensor& seen = capture_->seen[i];  // [rows, d]
    if (!seen.defined()) fail("{}: the forward never reached this site", site);
    if (count < 0) count = seen.size(0);
    if (seen.size(0) != count)
      fail(
          "{}: found {} rows in a forward of {} tokens, expected a row a token; choose another "
          "site",
          site, seen.size(0), count);
    kept.rows.push_back(keep.defined() ? select(seen, keep) : seen);
    kept.norms.push_back(norms_of(kept.rows.back()));
    if (!kept.norms.back().isfinite().all().item<bool>())
      fail(
          "{}: found NaN or infinity in the activations of {}, expected finite numbers; the model "
          "may be damaged, or its type too narrow",
          site, input_->where());
  }
  kept.of = count;
  kept.places = at::arange(count);
  if (rows->tokens.defined()) kept.tokens = flat(rows->tokens);
  if (keep.defined()) kept.select_places(keep);
  counts_.tokens += real.defined() ? count_of(real) : static_cast<uint64_t>(count);
  if (special.defined() && !options_.keep_special) counts_.special += count_of(special);
  return kept;
}

void Harvest::keep_below_thresholds(Kept& kept) const {
  if (options_.sink_threshold == 0) return;
  at::Tensor keep;  // [rows] bool
  for (size_t i = 0; i < kept.norms.size(); ++i) {
    const at::Tensor below = kept.norms[i] <= options_.sink_threshold * medians_[i];
    keep = keep.defined() ? keep & below : below;
  }
  for (size_t i = 0; i < kept.norms.size(); ++i) {
    kept.rows[i] = select(kept.rows[i], keep);
    kept.norms[i] = select(kept.norms[i], keep);
  }
  kept.select_places(keep);
}

void Harvest::calibrate() {
  if (!medians_.empty()) return;
  const HarvestCounts counts = counts_;
  const Json place = input_->cursor();
  input_->seek(Json());
  const size_t sites = options_.sites.size();
  std::vector<std::vector<at::Tensor>> norms(sites);  // [rows] a site and forward
  int64_t rows = 0;
  while (rows < options_.calibration_rows) {
    const auto kept = run();
    if (!kept) break;
    rows += kept->norms[0].size(0);
    for (size_t i = 0; i < sites; ++i) norms[i].push_back(kept->norms[i]);
  }
  if (rows == 0) fail("{}: found no row to keep; is there any text?", input_->where());

  Kept all;
  for (size_t i = 0; i < sites; ++i) {
    all.norms.push_back(at::cat(norms[i]));
    all.rows.push_back(all.norms[i]);  // of the rows, only their norms are asked for
    medians_.push_back(all.norms[i].median().item<double>());
  }
  keep_below_thresholds(all);
  at::Tensor joint = at::zeros_like(all.norms[0]);  // [rows]
  for (const at::Tensor& site_norms : all.norms) {
    means_.push_back(mean_of(site_norms));
    joint += site_norms.square();
  }
  joint_mean_ = mean_of(joint.sqrt());
  input_->seek(place);
  counts_ = counts;
}

std::optional<std::vector<at::Tensor>> Harvest::next() {
  calibrate();
  auto kept = run();
  if (!kept) return std::nullopt;
  const int64_t before = kept->rows[0].size(0);
  keep_below_thresholds(*kept);
  counts_.sinks += static_cast<uint64_t>(before - kept->rows[0].size(0));
  tokens_ = kept->tokens;
  places_ = kept->places + rows_run_;
  rows_run_ += kept->of;
  return std::move(kept->rows);
}

void Harvest::rewind() {
  input_->seek(Json());
}

Json Harvest::cursor() const {
  return {{"input", input_->cursor()},     {"tokens", counts_.tokens}, {"special", counts_.special},
          {"sinks", counts_.sinks},        {"median_norms", medians_}, {"mean_norms", means_},
          {"joint_mean_norm", joint_mean_}};
}

void Harvest::seek(const Json& cursor) {
  const auto count = [&](const char* key) {
    return static_cast<uint64_t>(
        json_integer(cursor, key, kCursor, 0, std::numeric_limits<int64_t>::max()));
  };
  counts_ = {.tokens = count("tokens"), .special = count("special"), .sinks = count("sinks")};
  medians_ = numbers(cursor, "median_norms", options_.sites.size());
  means_ = numbers(cursor, "mean_norms", options_.sites.size());
  joint_mean_ = json_number(cursor, "joint_mean_norm", kCursor);
  input_->seek(cursor.value("input", Json()));
}

Json Harvest::provenance() const {
  Json json = input_->provenance();
  Json sites = Json::array();
  for (const Site& site : options_.sites) sites.push_back(site.name());
  json["sites"] = sites;
  json["keep_special"] = options_.keep_special;
  json["sink_threshold"] = options_.sink_threshold;
  json["calibration_rows"] = options_.calibration_rows;
  return json;
}

}  // namespace vyx::models
