#include "apps/compare/compare_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "apps/compare/rules.h"

namespace vyx::compare {
namespace {

std::string interval_text(const Interval& interval) {
  return fmt::format("[{:+.3f}, {:+.3f}]", interval.low, interval.high);
}

constexpr double kLeastOfFew = 0.05;  // a p that could not be as small says nothing here

std::string p_text(double p) {
  return std::isfinite(p) ? fmt::format("{:.3f}", p) : "none";
}

std::string method_row(const MethodResult& method, const Level& level) {
  double largest = std::nan("");
  for (const NullResult& null : method.nulls.nulls)
    if (null.least_p <= kLeastOfFew) largest = std::fmax(largest, null.p);
  const bool control = method.role != Role::method;
  return fmt::format(
      "{:<26} {:>9.4f} {:>7} {:>+9.3f} {:>24} {:>8.3f} {:>+10.4f} {:>7.0f} % {:>9} {:>9} {:>9} "
      "{:>10}{}\n",
      method.name, level.dose, fmt::format("{:.0f} %", 100 * level.log_kl_error), level.effect,
      interval_text(level.interval), level.side_effect.kl_p95, level.side_effect.loss_rise,
      100 * method.anti_steerable, method.ood ? fmt::format("{:+.3f}", method.ood->effect) : "-",
      method.choices ? fmt::format("{:.1f} %", 100 * method.choices->accuracy) : "-",
      control ? "" : p_text(largest), control ? "" : p_text(method.nulls.p_adjusted),
      level.reached ? "" : "  (level not reached)");
}

std::string table(const Comparison& comparison) {
  std::string out =
      fmt::format("{:<26} {:>9} {:>7} {:>9} {:>24} {:>8} {:>10} {:>9} {:>9} {:>9} {:>9} {:>10}\n",
                  "method", "dose", "KL ±", "effect", "95 % interval", "KL p95", "loss rise",
                  "anti", "template", "choices", "largest p", "adjusted p");
  for (const MethodResult& method : comparison.methods)
    out += method_row(method, headline_of(method, comparison.headline));
  if (comparison.choice_items > 0)
    out += fmt::format("{:<26} {:>119}\n", "the model as it is",
                       fmt::format("{:.1f} %", 100 * comparison.unedited_accuracy));
  if (comparison.instructed)
    out += fmt::format("{:<26} {:>17} {:>+9.3f} {:>24} {:>8.3f} {:>+10.4f}\n", "the prompt", "",
                       comparison.instructed_effect, interval_text(comparison.instructed_interval),
                       comparison.instructed_side_effect.kl_p95,
                       comparison.instructed_side_effect.loss_rise);
  return out +
         "KL ±: standard error of the KL that the dose was read from. Largest p: over the "
         "nulls that are valid for the method and could show .05; adjusted p: over the methods, of "
         "the null "
         "that drives all of them.\n";
}

}  // namespace

std::string to_text(const Comparison& comparison) {
  std::string out = table(comparison) + "\n";
  for (const PassLine& line : comparison.rules)
    out += fmt::format("{:<6}{}: {} ({})\n", line.passed ? (*line.passed ? "pass" : "FAIL") : "-",
                       line.method, line.rule, line.detail);
  out += "\n";
  for (const std::string& sentence : answer(comparison)) out += sentence + "\n";
  out += "\nNot shown:\n";
  for (const std::string& note : comparison.notes) out += fmt::format("- {}\n", note);
  return out;
}

}  // namespace vyx::compare
