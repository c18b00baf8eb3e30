// The results as a page: tables with means over seeds, a chart of each result, what failed, and
// what it came from.
#pragma once
#include <string>
#include <vector>

#include "apps/ablation/manifest.h"
#include "apps/ablation/rows.h"

namespace vyx::ablation {

/// The same results give the same bytes: no time of day, no speed of a machine. `folder` is the
/// run's name in the command that runs it again.
std::string report_page(const Plan& plan, const RunResult& result, const Manifest& manifest,
                        const std::string& folder);

/// The means over seeds as a table of text, header first.
std::vector<std::vector<std::string>> table_of(const Plan& plan, std::span<const Row> rows);

}  // namespace vyx::ablation
