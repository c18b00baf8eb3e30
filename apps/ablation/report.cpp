#include "apps/ablation/report.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "apps/ablation/reference.h"
#include "core/report/page.h"

namespace vyx::ablation {
namespace {

constexpr size_t kMaxCurves = 4;  // that a chart can tell apart by colour
constexpr size_t kMaxCharts = 48;

using Key = std::vector<std::pair<std::string, OrderedJson>>;

// The grid keys of the groups, the variant among them when there are several, and their values in
// order of appearance.
struct Axis {
  std::string name;
  std::vector<OrderedJson> values;
  bool numeric() const {
    return values.size() > 1 && std::all_of(values.begin(), values.end(),
                                            [](const OrderedJson& v) { return v.is_number(); });
  }
};

Key full_key(const Group& group) {
  Key key = group.key;
  if (!group.variant.empty()) key.insert(key.begin(), {"variant", group.variant});
  return key;
}

std::vector<Axis> axes_of(const std::vector<Group>& groups) {
  std::vector<Axis> axes;
  for (const Group& group : groups) {
    for (const auto& [name, value] : full_key(group)) {
      auto axis =
          std::find_if(axes.begin(), axes.end(), [&](const Axis& a) { return a.name == name; });
      if (axis == axes.end()) axis = axes.insert(axes.end(), {name, {}});
      if (std::find(axis->values.begin(), axis->values.end(), value) == axis->values.end())
        axis->values.push_back(value);
    }
  }
  return axes;
}

std::string name_of(const Key& key) {
  std::vector<std::string> parts;
  for (const auto& [name, value] : key) parts.push_back(name + " " + as_text(value));
  return fmt::format("{}", fmt::join(parts, ", "));
}

// Which of the axes a chart's x and its curves are; the rest give charts of their own.
struct Layout {
  std::string x, curves;
};

std::optional<Layout> layout_of(const std::vector<Axis>& axes) {
  const Axis *x = nullptr, *curves = nullptr;
  for (const Axis& axis : axes)
    if (axis.numeric() && (x == nullptr || axis.values.size() >= x->values.size())) x = &axis;
  if (x == nullptr) return std::nullopt;
  for (const Axis& axis : axes)
    if (&axis != x && axis.values.size() <= kMaxCurves &&
        (curves == nullptr || axis.values.size() > curves->values.size()))
      curves = &axis;
  return Layout{x->name, curves == nullptr ? "" : curves->name};
}

// One result over x: a chart for each combination of the other axes.
std::vector<Chart> charts_of(const std::vector<Group>& groups, const std::string& result,
                             const Layout& layout) {
  std::vector<std::pair<std::string, Chart>> charts;
  for (const Group& group : groups) {
    Key rest = full_key(group);
    const auto take = [&](const std::string& name) {
      const auto found =
          std::find_if(rest.begin(), rest.end(), [&](const auto& c) { return c.first == name; });
      OrderedJson value;
      if (found == rest.end()) return value;
      value = found->second;
      rest.erase(found);
      return value;
    };
    const OrderedJson x = take(layout.x), curve = take(layout.curves);
    if (!x.is_number()) continue;
    const std::string place = name_of(rest);
    auto chart =
        std::find_if(charts.begin(), charts.end(), [&](const auto& c) { return c.first == place; });
    if (chart == charts.end())
      chart = charts.insert(charts.end(), {place,
                                           {.title = place.empty() ? result : result + ": " + place,
                                            .x_label = layout.x,
                                            .y_label = result}});
    auto& curves = chart->second.curves;
    const std::string name = curve.is_null() ? result : as_text(curve);
    auto found =
        std::find_if(curves.begin(), curves.end(), [&](const Curve& c) { return c.name == name; });
    if (found == curves.end()) found = curves.insert(curves.end(), {.name = name});
    const auto interval = group.results.find(result);
    const double y = interval == group.results.end() ? std::numeric_limits<double>::quiet_NaN()
                                                     : interval->second.mean;
    const double at = x.get<double>();
    const auto before = std::lower_bound(found->x.begin(), found->x.end(), at) - found->x.begin();
    found->x.insert(found->x.begin() + before, at);
    found->y.insert(found->y.begin() + before, y);
  }
  std::vector<Chart> result_charts;
  for (auto& [place, chart] : charts) result_charts.push_back(std::move(chart));
  return result_charts;
}

void add_charts(Page& page, std::vector<Group> groups, std::span<const Row> rows) {
  std::erase_if(groups, [](const Group& group) {
    return group.results.empty();
  });  // what failed gives no axis its values
  const auto layout = layout_of(axes_of(groups));
  if (!layout) return;
  size_t drawn = 0, left_out = 0;
  page.heading(fmt::format("Over {}", layout->x));
  if (!layout->curves.empty()) page.paragraph(fmt::format("A curve for each {}.", layout->curves));
  for (const std::string& name : result_names_of(rows)) {
    for (const Chart& chart : charts_of(groups, name, *layout)) {
      const bool has_data =
          std::any_of(chart.curves.begin(), chart.curves.end(), [](const Curve& curve) {
            return std::count_if(curve.y.begin(), curve.y.end(), [](double y) {
                     return std::isfinite(y);
                   }) > 1;  // a point is no curve
          });
      if (!has_data) continue;
      if (drawn == kMaxCharts) {
        ++left_out;
        continue;
      }
      page.chart(chart);
      ++drawn;
    }
  }
  if (left_out > 0)
    page.paragraph(
        fmt::format("{} more charts are left out; results.csv has their numbers.", left_out));
}

void add_failures(Page& page, const Plan& plan, std::span<const Row> rows) {
  std::vector<std::vector<std::string>> failures;
  for (const Row& row : rows) {
    if (row.error.empty()) continue;
    Key key = plan.cells[row.cell].key;
    if (!row.variant.empty()) key.insert(key.begin(), {"variant", row.variant});
    failures.push_back({std::to_string(row.cell), name_of(key), row.error});
  }
  if (failures.empty()) return;
  page.heading("Cells that failed");
  page.table({"cell", "at", "error"}, failures);
}

void add_warnings(Page& page, const RunResult& result) {
  std::set<std::pair<std::string, std::string>> seen;
  std::vector<std::vector<std::string>> rows;
  for (const auto& [id, record] : result.records)
    for (const std::string& warning : record.warnings)
      if (seen.emplace(id.substr(0, id.rfind('-')), warning).second) rows.push_back({id, warning});
  if (rows.empty()) return;
  page.heading("Warnings of the drivers");
  page.table({"first of the steps", "warning"}, rows);
}

}  // namespace

std::vector<std::vector<std::string>> table_of(const Plan& plan, std::span<const Row> rows) {
  const std::vector<Group> groups = group(plan, rows);
  const std::vector<Axis> axes = axes_of(groups);
  const std::vector<std::string> names = result_names_of(rows);
  std::vector<std::vector<std::string>> table(1);
  for (const Axis& axis : axes) table[0].push_back(axis.name);
  for (const std::string& name : names) table[0].push_back(name);
  const bool averaged = std::any_of(plan.cells.begin(), plan.cells.end(),
                                    [](const Cell& cell) { return !cell.seeds.empty(); });
  if (averaged) table[0].push_back("seeds");
  for (const Group& group : groups) {
    const Key key = full_key(group);
    std::vector<std::string> line;
    for (const Axis& axis : axes) {
      const auto found = std::find_if(key.begin(), key.end(), [&](const auto& coordinate) {
        return coordinate.first == axis.name;
      });
      line.push_back(found == key.end() ? "" : as_text(found->second));
    }
    size_t count = 0;
    for (const std::string& name : names) {
      const auto found = group.results.find(name);
      if (found != group.results.end()) count = std::max(count, found->second.count);
      line.push_back(
          to_text(found == group.results.end() ? std::nullopt : std::optional(found->second)));
    }
    if (averaged)
      line.push_back(group.failed == 0 ? std::to_string(count)
                                       : fmt::format("{}, {} failed", count, group.failed));
    table.push_back(std::move(line));
  }
  return table;
}

std::string report_page(const Plan& plan, const RunResult& result, const Manifest& manifest,
                        const std::string& folder) {
  const Experiment& experiment = manifest.experiments.front().experiment;
  Page page(experiment.title.empty() ? "Ablation" : experiment.title);
  if (!experiment.description.empty()) page.paragraph(experiment.description);
  page.paragraph(fmt::format("{} of {} cells, {} of which failed.", result.rows.size(),
                             plan.cells.size(), result.failed()));

  const auto table = table_of(plan, result.rows);
  page.heading("Results");
  const bool averaged = std::any_of(plan.cells.begin(), plan.cells.end(),
                                    [](const Cell& cell) { return !cell.seeds.empty(); });
  if (averaged)
    page.paragraph(
        "Means over seeds, ± half the width of the 95 % confidence interval (Student's t).");
  page.table(table.front(), {table.begin() + 1, table.end()});
  add_charts(page, group(plan, result.rows), result.rows);
  add_failures(page, plan, result.rows);
  add_warnings(page, result);

  page.heading("Where it came from");
  std::vector<std::vector<std::string>> origin{
      {"vyx", manifest.build.version + ", commit " + manifest.build.commit},
      {"processor", manifest.machine.cpu},
      {"its features", fmt::format("{}", fmt::join(manifest.machine.flags, " "))},
      {"threads of a step", std::to_string(experiment.threads)}};
  for (const auto& [path, digest] : plan.inputs)
    origin.push_back({"input", path + ", SHA-256 " + digest});
  page.table({"what", "which"}, origin);
  page.paragraph(
      fmt::format("Every number is in results.csv and results.jsonl, every digest in "
                  "manifest.json. To run it again and compare: vyx-ablate --verify {}",
                  folder));
  return page.html();
}

}  // namespace vyx::ablation
