#include "models/activations/harvest.h"

#include <ATen/Context.h>
#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <limits>
#include <map>
#include <mutex>
#include <utility>

#include "core/base/error.h"
#include "core/hooks/activation.h"
#include "core/hooks/activation_reader.h"
#include "core/hooks/token_mask.h"
#include "models/language_model/forward_scope.h"

namespace vyx::models {
namespace {

constexpr const char* kCursor = "harvest's cursor";

at::Tensor select(const at::Tensor& rows,
                  const at::Tensor& keep) {  // [rows, ..], [rows] bool -> [kept, ..]
  return keep.all().item<bool>() ? rows : rows.index({keep});
}

double mean_of(const at::Tensor& values) {
  return values.to(at::kDouble).mean().item<double>();
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
  std::vector<at::Tensor> rows;   // [rows, d] per site, float32
  std::vector<at::Tensor> norms;  // [rows] a site, float32
  at::Tensor tokens;              // [rows] int64, or undefined
  at::Tensor places;              // [rows] int64: in the forward
  int64_t of = 0;                 // how many rows the forward had, with padding

  void select_places(const at::Tensor& keep) {  // [rows] bool
    if (tokens.defined()) tokens = select(tokens, keep);
    if (places.defined()) places = select(places, keep);
  }
};

Harvest::Harvest(std::unique_ptr<HarvestInput> input, HarvestOptions options)
    : input_(std::move(input)), options_(std::move(options)) {
  validate(options_);
  counts_.sinks_at.resize(options_.sites.size());
  input_->module().require(options_.sites);
}

std::optional<Harvest::Kept> Harvest::run() {
  auto forward = input_->next();
  if (!forward) return std::nullopt;
  RowFacts& facts = forward->facts;
  std::map<Site, SiteReading> seen;
  std::mutex mutex;  // of seen: forked branches run at the same time
  const auto keep_rows = [&](const Site& site, const c10::IValue& value) {
    const at::Tensor x = copy_of(activation_at(site, value));  // [.., d]
    const std::lock_guard lock(mutex);
    seen[site] = {.shape = x.sizes().vec(), .place = place_of_activation(value)};
    return x.reshape({-1, x.size(-1)});
  };
  const ForwardScope scope;
  const TokenMaskScope mask(forward->call.tokens);
  if (forward->seed) at::manual_seed(*forward->seed);
  const std::vector<at::Tensor> read =  // [rows, d] per site
      read_once(input_->module(), options_.sites, keep_rows, [&] {
        auto& [method, arguments, tokens] = forward->call;
        if (forward->to_the_end)
          input_->module().run(method, std::move(arguments), forward->keywords);
        else
          input_->module().harvest(method, std::move(arguments), forward->keywords);
      });
  std::vector<SiteReading> readings;
  for (const Site& site : options_.sites) readings.push_back(seen[site]);
  require_same_positions(readings, facts);
  if (readings_.empty()) readings_ = std::move(readings);

  for (at::Tensor* fact : {&facts.real, &facts.special, &facts.tokens})
    if (fact->defined()) *fact = fact->reshape({-1});  // [rows]
  const auto& [real, special, tokens] = facts;
  const at::Tensor keep = text_rows(facts, options_.keep_special);  // [rows]

  Kept kept;
  for (size_t i = 0; i < options_.sites.size(); ++i) {
    kept.rows.push_back(keep.defined() ? select(read[i], keep) : read[i]);
    kept.norms.push_back(row_norms(kept.rows.back()));
    if (!kept.norms.back().isfinite().all().item<bool>()) fail_not_finite(i, kept.rows.back());
  }
  kept.of = read[0].size(0);
  kept.places = at::arange(kept.of);
  kept.tokens = tokens;
  if (keep.defined()) kept.select_places(keep);
  counts_.tokens += real.defined() ? count_of(real) : static_cast<uint64_t>(kept.of);
  if (special.defined() && !options_.keep_special) counts_.special += count_of(special);
  return kept;
}

void Harvest::fail_not_finite(size_t site, const at::Tensor& rows) const {  // [rows, d]
  const bool masked = !(rows.isnan() | rows.isposinf()).any().item<bool>();
  fail("{}: found {} in the activations of {}, expected finite numbers{}",
       options_.sites[site].name(), masked ? "−infinity" : "NaN or infinity", input_->where(),
       masked ? ", and no scores that a mask hides; choose another site" : "");
}

/// The positions are all dimensions but the last: of the input's tokens where it has some, else of
/// the first site.
void Harvest::require_same_positions(const std::vector<SiteReading>& readings,
                                     const RowFacts& facts) const {
  const auto positions_of = [](const SiteReading& reading) {
    return std::vector<int64_t>(reading.shape.begin(), reading.shape.end() - 1);
  };
  std::vector<int64_t> expected = positions_of(readings[0]);
  std::string whose = fmt::format("those of {}", options_.sites[0].name());
  for (const at::Tensor& fact : {facts.real, facts.special, facts.tokens}) {
    if (!fact.defined()) continue;
    expected = fact.sizes().vec();
    whose = "those of the input's tokens";
    break;
  }
  for (size_t i = 0; i < readings.size(); ++i)
    if (positions_of(readings[i]) != expected)
      fail(
          "{}: found shape [{}], expected positions [{}] before the last dimension, {}, so that "
          "rows belong to the same token; choose another site",
          options_.sites[i].name(), fmt::join(readings[i].shape, ", "), fmt::join(expected, ", "),
          whose);
}

/// Takes away the rows that are sinks at any site; returns how many are at each.
std::vector<uint64_t> Harvest::keep_below_thresholds(Kept& kept) const {
  std::vector<uint64_t> sinks(kept.norms.size());
  if (options_.sink_threshold == 0) return sinks;
  at::Tensor keep;  // [rows] bool
  for (size_t i = 0; i < kept.norms.size(); ++i) {
    const at::Tensor below =
        are_within(kept.norms[i], sink_limit(medians_[i], options_.sink_threshold));
    sinks[i] = count_of(~below);
    keep = keep.defined() ? keep & below : below;
  }
  for (size_t i = 0; i < kept.norms.size(); ++i) {
    kept.rows[i] = select(kept.rows[i], keep);
    kept.norms[i] = select(kept.norms[i], keep);
  }
  kept.select_places(keep);
  return sinks;
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
  if (rows == 0) fail("{}: found no row to keep; give more of it", input_->where());

  Kept all;
  for (size_t i = 0; i < sites; ++i) {
    all.norms.push_back(at::cat(norms[i]));
    all.rows.push_back(all.norms[i]);  // of the rows, only their norms are asked for
    medians_.push_back(all.norms[i].median().item<double>());
  }
  keep_below_thresholds(all);
  for (const at::Tensor& site_norms : all.norms) means_.push_back(mean_of(site_norms));
  input_->seek(place);
  counts_ = counts;
}

std::optional<std::vector<at::Tensor>> Harvest::next() {
  calibrate();
  auto kept = run();
  if (!kept) return std::nullopt;
  const int64_t before = kept->rows[0].size(0);
  const std::vector<uint64_t> sinks = keep_below_thresholds(*kept);
  for (size_t i = 0; i < sinks.size(); ++i) counts_.sinks_at[i] += sinks[i];
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
  return {{"input", input_->cursor()}, {"tokens", counts_.tokens},     {"special", counts_.special},
          {"sinks", counts_.sinks},    {"sinks_at", counts_.sinks_at}, {"median_norms", medians_},
          {"mean_norms", means_}};
}

void Harvest::seek(const Json& cursor) {
  const auto count = [&](const char* key) {
    return static_cast<uint64_t>(
        json_integer(cursor, key, kCursor, 0, std::numeric_limits<int64_t>::max()));
  };
  counts_ = {.tokens = count("tokens"), .special = count("special"), .sinks = count("sinks")};
  for (const double sinks : numbers(cursor, "sinks_at", options_.sites.size()))
    counts_.sinks_at.push_back(static_cast<uint64_t>(sinks));
  medians_ = numbers(cursor, "median_norms", options_.sites.size());
  means_ = numbers(cursor, "mean_norms", options_.sites.size());
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
