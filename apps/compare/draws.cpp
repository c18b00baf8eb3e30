#include "apps/compare/draws.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "apps/compare/p_values.h"
#include "core/base/error.h"

namespace vyx::compare {
namespace {

constexpr int64_t kEnough = 10;        // draws that reach the observed effect
constexpr double kNoEffect = 0;        // of a draw in which no latent was there to be set
constexpr const char* kObserved = "";  // the key of the observed road among kept draws

/// The road over one input, or what an earlier run has kept of it.
Draw draw_of(Measure& measure, std::string_view null, uint64_t number, const DrawOptions& options,
             KeptDraws& kept, const std::function<RoadInput()>& input) {
  if (const Draw* const known = kept.find(null, number)) {
    measure.count(known->tokens);
    return *known;
  }
  const uint64_t before = measure.tokens();
  Draw draw{.arrivals = walk(measure, input(), options.road), .tokens = 0};
  draw.tokens = measure.tokens() - before;
  kept.add(null, number, draw);
  return draw;
}

/// A null's draws against one method's effect.
class Against {
 public:
  Against(const Null& null, const Arrival& observed, size_t place, int64_t most)
      : null_(null), observed_(observed), place_(place) {
    if (!null.drives_all) sequential_.emplace(observed.effect, kEnough, most);
  }

  size_t place() const { return place_; }  // of the method among the observed ones
  bool done() const { return sequential_ && sequential_->done(); }
  void add(const Draw& draw) {
    if (done()) return;
    const auto found =
        std::find_if(draw.arrivals.begin(), draw.arrivals.end(), [&](const Arrival& arrival) {
          return null_.is_one_vector || arrival.method == observed_.method;
        });
    draws_.push_back(found == draw.arrivals.end() ? kNoEffect : found->effect);
    if (sequential_) sequential_->add(draws_.back());
  }
  const std::vector<double>& draws() const { return draws_; }

  NullResult result() const {
    const double least = 1 / static_cast<double>(1 + draws_.size());
    return {.name = std::string(null_.name),
            .replaces = std::string(null_.replaces),
            .hypothesis = std::string(null_.hypothesis),
            .observed = observed_.effect,
            .draws = draws_,
            .stopped_early = sequential_ && sequential_->reached() >= kEnough,
            .p = sequential_ ? sequential_->p() : null_p(observed_.effect, draws_),
            .least_p = least,
            .z = null_z(observed_.effect, draws_)};
  }

 private:
  const Null& null_;
  const Arrival& observed_;
  size_t place_;
  std::vector<double> draws_;
  std::optional<SequentialP> sequential_;
};

void adjust(const std::vector<Arrival>& observed, const std::vector<Against>& all,
            NullTests& tests) {
  std::vector<double> effects;
  std::vector<std::vector<double>> rows(all.front().draws().size());
  for (const Against& against : all) {
    effects.push_back(observed[against.place()].effect);
    for (size_t i = 0; i < rows.size(); ++i) rows[i].push_back(against.draws()[i]);
  }
  const StepDown adjusted = step_down(effects, rows);
  for (size_t i = 0; i < all.size(); ++i) tests.methods[all[i].place()].p_adjusted = adjusted.p[i];
  tests.global_p = adjusted.global_p;
  tests.shared = std::move(rows);
}

}  // namespace

NullTests draw_nulls(Measure& measure, const NullSource& source, const DrawOptions& options,
                     KeptDraws& kept) {
  NullTests tests;
  if (options.draws == 0) return tests;
  const std::vector<Arrival> observed =
      draw_of(measure, kObserved, 0, options, kept, [&] { return source.input; }).arrivals;
  for (const Arrival& arrival : observed) tests.methods.push_back({.method = arrival.method});
  for (const Null& null : nulls()) {
    const int64_t draws = null.is_limited
                              ? std::min(options.draws, static_cast<int64_t>(source.foreign.size()))
                              : options.draws;
    std::vector<Against> all;
    for (size_t i = 0; i < observed.size() && draws > 0; ++i)
      if (is_valid(null, source, observed[i].method)) all.emplace_back(null, observed[i], i, draws);
    if (all.empty()) continue;
    if (options.on_step) options.on_step(fmt::format("null: {}", null.name));
    const auto done = [](const Against& against) { return against.done(); };
    for (int64_t i = 0; i < draws && !std::all_of(all.begin(), all.end(), done); ++i) {
      const auto number = static_cast<uint64_t>(i);
      const Draw draw = draw_of(measure, null.name, number, options, kept,
                                [&] { return null.replaced(source, number); });
      for (Against& against : all) against.add(draw);
    }
    for (const Against& against : all)
      tests.methods[against.place()].nulls.push_back(against.result());
    if (null.drives_all) adjust(observed, all, tests);
  }
  return tests;
}

}  // namespace vyx::compare
