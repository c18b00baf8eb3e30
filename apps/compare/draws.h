// Draws of the nulls, and what they say about each method.
#pragma once
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "apps/compare/kept_draws.h"
#include "apps/compare/nulls.h"

namespace vyx::compare {

/// p by comparison with draws that took the same road.
struct NullResult {
  std::string name, replaces, hypothesis;  // as Null
  double observed = 0;         // the method's own effect, with the draws' few tokens and first dose
  std::vector<double> draws;   // effect on the test at the headline level
  bool stopped_early = false;  // enough draws had reached the observed effect
  double p = 1, least_p = 0;   // least_p: the smallest that these draws could have shown
  double z = 0;
};

struct MethodNulls {
  std::string method;
  std::vector<NullResult> nulls;  // those that are valid for it; empty: none is
  // Of the null that drives all methods, adjusted over them by step-down max z; NaN: it has none.
  double p_adjusted = std::numeric_limits<double>::quiet_NaN();
};

struct NullTests {
  std::vector<MethodNulls> methods;                            // of the observed road, in its order
  double global_p = std::numeric_limits<double>::quiet_NaN();  // that no method has an effect
  std::vector<std::vector<double>> shared;  // draws that drove all methods [draws][methods]
};

struct DrawOptions {
  int64_t draws = 199;  // of each null; 0: none
  RoadOptions road;
  std::function<void(const std::string& message)> on_step;
};

/// Draws as many of each null as asked; a null whose draws drive no other method's p stops for a
/// method when 10 of them have reached its effect (Besag and Clifford 1991). Deterministic for
/// source.seed.
NullTests draw_nulls(Measure& measure, const NullSource& source, const DrawOptions& options,
                     KeptDraws& kept);

}  // namespace vyx::compare
