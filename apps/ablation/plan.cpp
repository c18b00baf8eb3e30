#include "apps/ablation/plan.h"

#include <algorithm>
#include <optional>
#include <set>
#include <span>

#include "apps/ablation/reference.h"
#include "core/base/error.h"
#include "core/base/nearest.h"
#include "core/base/text.h"
#include "core/base/version.h"
#include "core/io/digest.h"

namespace vyx::ablation {
namespace {

constexpr size_t kIdDigits = 16;
constexpr int kMaxDepth = 4;  // of references in values that references name

// A value with its files and steps as paths, for the command line, and as digests, for the
// identity.
struct Resolved {
  OrderedJson value, identity;
};

class Planner {
 public:
  Planner(DriverCatalog& drivers, std::filesystem::path folder)
      : drivers_(drivers), folder_(std::move(folder)) {}

  void add(const NamedExperiment& named, bool is_one_of_several) {
    for (const Point& point : points_of(named.experiment)) {
      add_cell(named, point);
      if (is_one_of_several) plan_.cells.back().variant = named.variant;
    }
  }
  Plan take() { return std::move(plan_); }

 private:
  // The steps of one cell, as far as they are known.
  struct Context {
    const Experiment& experiment;
    const Point& point;
    std::map<std::string, std::string> ids = {};                          // name of a step → id
    std::map<std::string, std::map<std::string, Resolved>> options = {};  // of these steps
    std::vector<std::string> open = {};  // steps that are being worked out
  };

  void add_cell(const NamedExperiment& named, const Point& point) {
    Context context{.experiment = named.experiment, .point = point};
    Cell cell{.seeds = named.experiment.seeds};
    for (const auto& [key, value] : point) cell.key.emplace_back(key, label_of(value));
    for (const Step& step : named.experiment.steps) cell.steps.push_back(plan_step(context, step));
    for (const Result& result : named.experiment.results) {
      const std::string place =
          named.experiment.document.place("/results/" + nlohmann::detail::escape(result.name));
      cell.results.push_back({result.name, context.ids.at(result.step),
                              as_text(resolve(context, result.path, place, nullptr).value)});
    }
    plan_.cells.push_back(std::move(cell));
  }

  const std::string& plan_step(Context& context, const Step& step) {
    if (const auto found = context.ids.find(step.name); found != context.ids.end())
      return found->second;
    const Document& document = context.experiment.document;
    const std::string pointer = "/steps/" + step.name;
    if (std::find(context.open.begin(), context.open.end(), step.name) != context.open.end())
      fail("{}: steps.{}: needs itself, by way of {}", document.place(pointer), step.name,
           context.open.back());
    context.open.push_back(step.name);

    const DriverInfo& driver =
        drivers_.find(step.driver, document.place(pointer + "/driver") + ": steps." + step.name);
    PlannedStep planned{.driver = &driver, .resumes = step.resumes};
    std::set<std::string> needs;
    std::map<std::string, Resolved>& options = context.options[step.name];
    for (const auto& [name, value] : step.options.items()) {
      const std::string place =
          document.place(pointer + "/options/" + nlohmann::detail::escape(name)) + ": steps." +
          step.name;
      const DriverOption& option = driver.option(name, place);
      Resolved resolved = resolve(context, value, place, &needs);
      if (resolved.value.is_null()) continue;
      if (option.is_path()) check_own_path(resolved, name, place);
      options[name] = std::move(resolved);
    }
    OrderedJson given = OrderedJson::object();
    for (const auto& [name, resolved] : options) given[name] = resolved.value;
    for (const auto& [name, value] : common_options(context.experiment))
      if (!options.contains(name) && driver.no_effect(name, given).empty())
        options[name] = {value, value};

    OrderedJson values = OrderedJson::object(), identities = OrderedJson::object();
    for (const auto& [name, resolved] : options) {
      values[name] = resolved.value;
      identities[name] = resolved.identity;
    }
    planned.arguments =
        command_line(driver, values, document.place(pointer) + ": steps." + step.name);
    planned.identity = {{"driver", driver.name}, {"version", kVersion}, {"options", identities}};
    planned.id =
        fmt::format("{}-{}", step.driver, sha256(planned.identity.dump()).substr(0, kIdDigits));
    planned.needs.assign(needs.begin(), needs.end());
    // What it wrote stands in its own folder, for those that refer to it.
    for (auto& [name, resolved] : options)
      if (step.options.contains(name) && driver.option(name, step.name).is_path() &&
          is_own_path(resolved))
        resolved = own_path(planned.id, resolved.value);

    context.open.pop_back();
    if (plan_.steps.emplace(planned.id, planned).second) plan_.order.push_back(planned.id);
    plan_.drivers[driver.name] = driver.sha256;
    return context.ids[step.name] = planned.id;
  }

  static std::vector<std::pair<std::string, OrderedJson>> common_options(
      const Experiment& experiment) {
    return {
        {"seed", experiment.seed}, {"threads", experiment.threads}, {"device", experiment.device}};
  }

  // A path in which no file and no step stands is one that the step writes, in its own folder.
  // Inputs must be references, so that they can be digested.
  static bool is_own_path(const Resolved& path) { return path.value == path.identity; }

  static void check_own_path(const Resolved& resolved, const std::string& name,
                             const std::string& place) {
    if (!is_own_path(resolved)) return;
    const OrderedJson& value = resolved.value;
    for (const OrderedJson& element : value.is_array() ? value : OrderedJson::array({value})) {
      const std::filesystem::path path(as_text(element));
      const bool leaves =
          path.is_absolute() || std::find(path.begin(), path.end(), "..") != path.end();
      if (leaves)
        fail(
            "{}: {}: found {}, expected a name in the step's own folder; for an input, name it in "
            "[files] and write {{NAME}} here",
            place, name, quote(path.string()));
    }
  }

  Resolved own_path(const std::string& id, const OrderedJson& value) const {
    if (value.is_array()) {
      Resolved list{OrderedJson::array(), OrderedJson::array()};
      for (const OrderedJson& element : value) {
        const Resolved one = own_path(id, element);
        list.value.push_back(one.value);
        list.identity.push_back(one.identity);
      }
      return list;
    }
    return {(files_folder(folder_, id) / as_text(value)).string(),
            "step:" + id + "/" + as_text(value)};
  }

  // A value that is being worked out: for which cell, and where it stands.
  struct Request {
    Context& context;
    const std::string& place;  // begins its messages
    // Gets the ids of the steps that the value refers to; null: such references are refused.
    std::set<std::string>* needs;
  };

  Resolved resolve(Context& context, const OrderedJson& value, const std::string& place,
                   std::set<std::string>* needs) {
    return resolve({context, place, needs}, value, 0);
  }
  Resolved resolve(const Request& request, const OrderedJson& value, int depth) {
    const auto with = [&](OrderedJson Resolved::*which) {
      return substitute(
          value, [&](const std::string& name) { return look_up(request, name, depth).*which; },
          request.place);
    };
    return {with(&Resolved::value), with(&Resolved::identity)};
  }

  Resolved look_up(const Request& request, const std::string& name, int depth) {
    if (depth > kMaxDepth) fail("{}: {{{}}} refers to itself", request.place, name);
    const auto dot = name.find('.');
    const std::string first = name.substr(0, dot),
                      rest = dot == std::string::npos ? "" : name.substr(dot + 1);
    if (first == "steps" && request.needs != nullptr) return look_up_step(request, rest);
    const Experiment& experiment = request.context.experiment;
    const auto resolved = [&](const OrderedJson& value) {
      return resolve(request, value, depth + 1);
    };
    for (const auto& [key, value] : request.context.point) {
      if (key != first) continue;
      if (value.is_object() && rest.empty())
        fail("{}: {{{}}}: its values are tables, expected one of their members, {{{}.MEMBER}}",
             request.place, name, first);
      return resolved(rest.empty() ? value : member_of(request, key, value, rest));
    }
    if (rest.empty() && experiment.values.contains(first))
      return resolved(experiment.values[first]);
    if (rest.empty() && experiment.files.contains(first)) {
      const std::string path = as_text(resolved(experiment.files[first]).value);
      return {path, "sha256:" + digest(path, first, experiment)};
    }
    std::vector<std::string> known;
    for (const auto& [key, values] : experiment.grid) known.push_back(key);
    for (const auto& [key, value] : experiment.values.items()) known.push_back(key);
    for (const auto& [key, value] : experiment.files.items()) known.push_back(key);
    for (const Step& step : experiment.steps)
      for (const auto& [option, value] : step.options.items())
        known.push_back("steps." + step.name + "." + option);
    fail("{}: {{{}}}: nothing in files, values, grid or steps has that name{}", request.place, name,
         did_you_mean(name, known));
  }

  // A member that this cell's table lacks, but another has, is null: what refers to it is left out.
  static OrderedJson member_of(const Request& request, const std::string& key,
                               const OrderedJson& table, const std::string& member) {
    if (table.is_object() && table.contains(member)) return table[member];
    std::vector<std::string> known;
    for (const auto& [grid_key, values] : request.context.experiment.grid) {
      if (grid_key != key) continue;
      for (const OrderedJson& value : values)
        if (value.is_object())
          for (const auto& [name, ignored] : value.items()) known.push_back(name);
    }
    if (std::find(known.begin(), known.end(), member) == known.end())
      fail("{}: {{{}.{}}}: no value of grid.{} has that member{}", request.place, key, member, key,
           did_you_mean(member, known));
    return {};
  }

  Resolved look_up_step(const Request& request, const std::string& name) {
    Context& context = request.context;
    const auto dot = name.find('.');
    const std::string step_name = name.substr(0, dot),
                      option = dot == std::string::npos ? "" : name.substr(dot + 1);
    const Experiment& experiment = context.experiment;
    const auto step = std::find_if(experiment.steps.begin(), experiment.steps.end(),
                                   [&](const Step& s) { return s.name == step_name; });
    std::vector<std::string> known;
    for (const Step& s : experiment.steps) known.push_back(s.name);
    if (step == experiment.steps.end())
      fail("{}: {{steps.{}}}: there is no step {}{}", request.place, name, quote(step_name),
           did_you_mean(step_name, known));
    request.needs->insert(plan_step(context, *step));
    const auto& options = context.options.at(step_name);
    if (const auto found = options.find(option); found != options.end()) return found->second;
    if (step->options.contains(option)) return {};  // left out in this cell
    known.clear();
    for (const auto& [key, value] : options) known.push_back(key);
    fail("{}: {{steps.{}}}: the step does not set the option {}{}", request.place, name,
         quote(option), did_you_mean(option, known));
  }

  const std::string& digest(const std::string& path, const std::string& name,
                            const Experiment& experiment) {
    if (const auto found = plan_.inputs.find(path); found != plan_.inputs.end())
      return found->second;
    try {
      return plan_.inputs[path] = digest_of(path);
    } catch (const Error& error) {
      plan_.inputs.erase(path);
      fail("{}: files.{}: {}; or give --set {}=PATH", experiment.document.place("/files/" + name),
           name, error.what(), name);
    }
  }

  DriverCatalog& drivers_;
  std::filesystem::path folder_;
  Plan plan_;
};

}  // namespace

Plan make_plan(const std::vector<NamedExperiment>& experiments, DriverCatalog& drivers,
               const std::filesystem::path& folder) {
  Planner planner(drivers, folder);
  for (const NamedExperiment& named : experiments) planner.add(named, experiments.size() > 1);
  return planner.take();
}

std::filesystem::path files_folder(const std::filesystem::path& run, const std::string& step_id) {
  return run / "steps" / step_id / "files";
}

std::string digest_of(const std::filesystem::path& path) {
  std::error_code unknown;
  if (!std::filesystem::is_directory(path, unknown)) {
    if (!std::filesystem::exists(path, unknown)) fail("{}: no such file", path.string());
    return sha256_file(path);
  }
  std::vector<std::string> lines;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(path))
    if (!entry.is_directory())
      lines.push_back(entry.path().lexically_relative(path).string() + '\0' +
                      sha256_file(entry.path()));
  std::sort(lines.begin(), lines.end());
  std::string all;
  for (const std::string& line : lines) all += line + '\n';
  return sha256(all);
}

}  // namespace vyx::ablation
