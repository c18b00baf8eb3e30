// Harvesting: a module runs over its input, and the activations at some sites come out as rows, in
// an order that can be taken up again anywhere. Special tokens and attention sinks are left out
// (row_filter.h), and counted.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/base/json_guard.h"
#include "core/hooks/hooked_module.h"
#include "models/activations/row_filter.h"
#include "models/language_model/forward.h"

namespace vyx::models {

/// A forward that is still to run.
struct HarvestForward {
  ForwardCall call;
  KeywordArguments keywords;
  RowFacts facts;           // of the rows of its activations
  bool to_the_end = false;  // runs on behind the last site: what follows changes its state
  std::optional<uint64_t> seed = {};  // of the module's own random operators
};

/// How a site's value was read, in the first forward.
struct SiteReading {
  std::vector<int64_t> shape;  // of its activation
  std::string place;           // place_of_activation()
};

/// What a module runs on, forward by forward (harvest_inputs.h). It runs nothing itself.
class HarvestInput {
 public:
  virtual ~HarvestInput() = default;
  virtual HookedModule& module() = 0;
  /// The next forward; nullopt at the end.
  virtual std::optional<HarvestForward> next() = 0;
  /// Passes over forwards. Returns how many there were, fewer than asked only at the end.
  virtual uint64_t pass(uint64_t forwards) = 0;
  /// The place between two forwards; seek(null) is the beginning.
  virtual Json cursor() const = 0;
  virtual void seek(const Json& cursor) = 0;
  /// Names the input of the forward that next() gave last, for messages.
  virtual std::string where() const = 0;
  /// What the rows are made of: the model, its input (with digests), how it was cut into forwards.
  virtual Json provenance() const = 0;
};

struct HarvestOptions {
  /// Their activations are [.., d] of at most three dimensions; all but the last agree, so that a
  /// row of each belongs to the same token.
  std::vector<Site> sites;
  bool keep_special = false;  // rows of special tokens
  /// Attention sinks are left out (row_filter.h): rows whose norm, at any of the sites, is beyond
  /// this many times the site's median norm (HarvestCounts says at which). 0: none is.
  double sink_threshold = kSinkThreshold;
  int64_t calibration_rows = 4096;  // the first ones, whose norms' median it is: fixed from then
                                    // on, so that a resumed harvest gives the same
};
void validate(const HarvestOptions& options);  // throws UsageError

struct HarvestCounts {
  uint64_t tokens = 0;                  // rows that were run, without padding
  uint64_t special = 0;                 // left out: special tokens
  uint64_t sinks = 0;                   // left out: attention sinks
  std::vector<uint64_t> sinks_at = {};  // per site: that are sinks there, and so at no site
};

class Harvest {
 public:
  Harvest(std::unique_ptr<HarvestInput> input, HarvestOptions options);

  /// The kept rows of the next forward, perhaps none: float32 [rows, d] per site, row r of each
  /// being the same token's. nullopt at the end. Throws Error for a site that is not reached
  /// exactly once a forward, or whose activations are not [.., d], one row per token, with the
  /// positions of the other sites; and for an activation that is NaN or infinite (naming site and
  /// input).
  std::optional<std::vector<at::Tensor>> next();

  /// Of the rows that next() gave last.
  /// [rows] int64: their ids; undefined when the input has none.
  const at::Tensor& tokens() const { return tokens_; }
  /// [rows] int64: which of all the rows that next() has run they are, those left out and padding
  /// included. Of packed text, place / context is the context and place % context the token in it.
  const at::Tensor& places() const { return places_; }

  /// Runs the calibration unless it has been: medians() is known from then on.
  void calibrate();
  /// One per site; of the calibration's rows.
  std::span<const double> median_norms() const { return medians_; }
  /// One per site; of those of these rows that are kept.
  std::span<const double> mean_norms() const { return means_; }

  /// Passes over forwards without running them; returns how many there were.
  uint64_t pass(uint64_t forwards) { return input_->pass(forwards); }
  /// Back to the beginning of the input; the calibration stays.
  void rewind();

  /// The place between two calls of next(), with calibration and counts; seek() goes on there.
  Json cursor() const;
  void seek(const Json& cursor);

  const HarvestCounts& counts() const { return counts_; }
  /// One per site; empty before the first forward.
  std::span<const SiteReading> readings() const { return readings_; }
  std::span<const Site> sites() const { return options_.sites; }
  Json provenance() const;
  Json input_cursor() const { return input_->cursor(); }

 private:
  struct Kept;
  std::optional<Kept> run();
  [[noreturn]] void fail_not_finite(size_t site, const at::Tensor& rows) const;
  void require_same_positions(const std::vector<SiteReading>& readings,
                              const RowFacts& facts) const;
  std::vector<uint64_t> keep_below_thresholds(Kept& kept) const;

  std::unique_ptr<HarvestInput> input_;
  HarvestOptions options_;
  std::vector<double> medians_, means_;
  HarvestCounts counts_;
  std::vector<SiteReading> readings_;
  int64_t rows_run_ = 0;        // by next()
  at::Tensor tokens_, places_;  // [rows] int64
};

}  // namespace vyx::models
