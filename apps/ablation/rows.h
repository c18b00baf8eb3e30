// The results of a run: one row per cell, picked from what the steps printed, and their means over
// seeds.
#pragma once
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "apps/ablation/plan.h"
#include "core/base/json_guard.h"

namespace vyx::ablation {

/// The value at a path of members and indices with dots between them ("recovered.clean.kl",
/// "rows.0.shift"). `[member=value]` behind a list chooses the first element with that member:
/// "rows[coefficient=-4].shift". Throws Error naming what is there instead.
const Json& select(const Json& json, std::string_view path);

struct Row {
  size_t cell = 0;
  std::string variant;
  std::vector<std::pair<std::string, OrderedJson>> key;  // grid key → label
  // name → number, text, true, false or null.
  std::vector<std::pair<std::string, OrderedJson>> results;
  std::string error;  // one line, when there are no results
};

/// The row of a cell whose steps printed `outputs` (by id); with an error when a path leads
/// nowhere.
Row row_of(const Plan& plan, size_t cell, const std::map<std::string, Json>& outputs);

OrderedJson to_json(const Row& row);
std::string to_jsonl(std::span<const Row> rows);
/// With a header: cell, variant if any has one, the grid's keys, the results, error. As RFC 4180
/// has it.
std::string to_csv(std::span<const Row> rows);

struct Interval {
  size_t count = 0;
  double mean = 0;
  // Of the 95 % confidence interval by Student's t; nullopt for fewer than two values.
  std::optional<double> half_width;
};
Interval mean_of(std::span<const double> values);  // at least one

/// The two-sided 95 % quantile of Student's t distribution, for 1 degree of freedom or more; to
/// four digits.
double student_t(size_t degrees_of_freedom);

/// Cells that differ in nothing but their seeds.
struct Group {
  std::string variant;
  std::vector<std::pair<std::string, OrderedJson>> key;  // without the seeds
  std::map<std::string, Interval> results;               // of those that are numbers
  size_t failed = 0;
};
std::vector<Group> group(const Plan& plan, std::span<const Row> rows);

/// "+0.734 ± 0.02" to as many digits as the interval is worth; "-" for none.
std::string to_text(const std::optional<Interval>& interval);

/// The keys, and the names of results, that any of the rows has, in order of appearance.
std::vector<std::string> keys_of(std::span<const Row> rows);
std::vector<std::string> result_names_of(std::span<const Row> rows);

}  // namespace vyx::ablation
