// A comparison on disk: compare.json (everything, with digests, seeds and doses), compare.csv (one
// row per method and KL level) and compare.html (one page that stands alone).
#pragma once
#include <filesystem>
#include <string>

#include "apps/compare/compare.h"

namespace vyx::compare {

Json to_json(const Comparison& comparison);  // a number that is not finite: null
std::string to_csv(const Comparison& comparison);

struct ReportPaths {
  std::filesystem::path json, csv, page;
};
ReportPaths report_paths(const std::filesystem::path& folder);
/// Makes the folder where it is missing; each file appears whole or not at all, the page last.
ReportPaths write_report(const Comparison& comparison, const std::filesystem::path& folder);

}  // namespace vyx::compare
