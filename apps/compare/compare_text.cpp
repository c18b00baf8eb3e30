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

std::string method_row(const MethodResult& method, const Level& level) {
  double p = method.nulls.empty() ? std::nan("") : 0;
  for (const NullResult& null : method.nulls) p = std::max(p, null.p);
  return fmt::format(
      "{:<26} {:>9.4f} {:>+9.3f} {:>24} {:>8.3f} {:>+10.4f} {:>7.0f} % {:>9} {:>9} {:>8.3f}{}\n",
      method.name, level.dose.dose, level.effect, interval_text(level.interval),
      level.side_effect.kl_p95, level.side_effect.loss_rise, 100 * method.anti_steerable,
      method.ood ? fmt::format("{:+.3f}", method.ood->effect) : "-",
      method.choices ? fmt::format("{:.1f} %", 100 * method.choices->accuracy) : "-", p,
      level.dose.reached ? "" : "  (level not reached)");
}

std::string table(const Comparison& comparison) {
  std::string out = fmt::format("{:<26} {:>9} {:>9} {:>24} {:>8} {:>10} {:>9} {:>9} {:>9} {:>8}\n",
                                "method", "dose", "effect", "95 % interval", "KL p95", "loss rise",
                                "anti", "template", "choices", "largest p");
  for (const MethodResult& method : comparison.methods)
    out += method_row(method, headline_of(method, comparison.headline));
  if (comparison.choice_items > 0)
    out += fmt::format("{:<26} {:>111}\n", "the model as it is",
                       fmt::format("{:.1f} %", 100 * comparison.unedited_accuracy));
  if (comparison.instructed)
    out += fmt::format("{:<26} {:>9} {:>+9.3f} {:>24} {:>8.3f} {:>+10.4f}\n", "the prompt", "",
                       comparison.instructed_effect, interval_text(comparison.instructed_interval),
                       comparison.instructed_side_effect.kl_p95,
                       comparison.instructed_side_effect.loss_rise);
  return out;
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
