#include "apps/ablation/experiment.h"

#include <algorithm>
#include <set>

#include "apps/ablation/reference.h"
#include "core/base/error.h"
#include "core/base/nearest.h"
#include "core/base/text.h"

namespace vyx::ablation {
namespace {

constexpr size_t kMaxPoints = 100'000;

const std::vector<std::string> kKeys{"title",   "description", "threads", "seed", "device",
                                     "seeds",   "values",      "files",   "grid", "only",
                                     "exclude", "steps",       "results"};
const std::vector<std::string> kStepKeys{"driver", "options", "resumes"};

class Parser {
 public:
  explicit Parser(Document document) : document_(std::move(document)) {}

  Experiment parse() {
    Experiment experiment;
    check_keys(document_.value, "", kKeys);
    experiment.title = text("/title", "");
    experiment.description = text("/description", "");
    experiment.device = text("/device", experiment.device);
    experiment.threads = static_cast<int>(integer("/threads", experiment.threads, 1, 4096));
    experiment.seed = static_cast<uint64_t>(integer("/seed", 0, 0, INT64_MAX));
    experiment.values = table("/values");
    experiment.files = table("/files");
    for (const auto& [name, value] : experiment.values.items()) check_name("/values", name);
    for (const auto& [name, value] : experiment.files.items()) {
      check_name("/files", name);
      if (!value.is_string()) refuse("/files/" + name, "expected the path of a file");
    }
    const OrderedJson grid = table("/grid"), steps = table("/steps"), results = table("/results");
    for (const auto& [key, values] : grid.items())
      experiment.grid.emplace_back(key, grid_values(key, values));
    experiment.only = conditions("/only", grid);
    experiment.exclude = conditions("/exclude", grid);
    for (const auto& [name, value] : steps.items()) experiment.steps.push_back(step(name));
    if (experiment.steps.empty())
      refuse("/steps", "found no steps, expected [steps.NAME] with a driver");
    for (const auto& [name, value] : results.items())
      experiment.results.push_back(result(name, value, steps));
    if (experiment.results.empty())
      refuse("/results", "found no results, expected [results] with NAME = \"STEP.PATH\"");
    experiment.seeds = seeds(grid);
    check_use(experiment);
    experiment.document = std::move(document_);
    return experiment;
  }

 private:
  // The pointer "/steps/sweep/driver" reads "steps.sweep.driver" in messages.
  static std::string dotted(const std::string& pointer) {
    std::string name = pointer.substr(std::min<size_t>(1, pointer.size()));
    std::replace(name.begin(), name.end(), '/', '.');
    return name.empty() ? "" : name + ": ";
  }
  [[noreturn]] void refuse(const std::string& pointer, const std::string& what) const {
    fail("{}: {}{}", document_.place(pointer), dotted(pointer), what);
  }

  void check_keys(const OrderedJson& object, const std::string& pointer,
                  const std::vector<std::string>& known) const {
    for (const auto& [key, value] : object.items())
      if (std::find(known.begin(), known.end(), key) == known.end())
        fail("{}: {}no such key {}{}",
             document_.place(pointer + "/" + nlohmann::detail::escape(key)), dotted(pointer),
             quote(key), did_you_mean(key, known));
  }

  // A name that references can reach, and that no other has.
  void check_name(const std::string& pointer, const std::string& name) {
    const std::string at = pointer + "/" + nlohmann::detail::escape(name);
    if (references("{" + name + "}") != std::vector{name} || name.find('.') != std::string::npos)
      refuse(at, "expected a name of letters, digits, _ and -, which begins with a letter");
    if (name == "steps" || !names_.insert(name).second)
      refuse(at, "found twice among files, values and grid, expected one of that name");
  }

  const OrderedJson* find(const std::string& pointer) const {
    const OrderedJson::json_pointer at(pointer);
    return document_.value.contains(at) ? &document_.value[at] : nullptr;
  }
  std::string text(const std::string& pointer, const std::string& without) const {
    const OrderedJson* value = find(pointer);
    if (value == nullptr) return without;
    if (!value->is_string()) refuse(pointer, "expected text");
    return value->get<std::string>();
  }
  int64_t integer(const std::string& pointer, int64_t without, int64_t min, int64_t max) const {
    const OrderedJson* value = find(pointer);
    if (value == nullptr) return without;
    if (!value->is_number_integer() || value->get<int64_t>() < min || value->get<int64_t>() > max)
      refuse(pointer,
             fmt::format("found {}, expected an integer from {} to {}", value->dump(), min, max));
    return value->get<int64_t>();
  }
  OrderedJson table(const std::string& pointer) const {
    const OrderedJson* value = find(pointer);
    if (value == nullptr) return OrderedJson::object();
    if (!value->is_object()) refuse(pointer, "expected a table");
    return *value;
  }

  OrderedJson grid_values(const std::string& key, const OrderedJson& values) {
    const std::string pointer = "/grid/" + key;
    check_name("/grid", key);
    if (!values.is_array() || values.empty()) refuse(pointer, "expected a list of values");
    std::set<std::string> labels;
    for (const OrderedJson& value : values) {
      if (value.is_object() && !(value.contains("name") && value["name"].is_string()))
        refuse(pointer,
               "found a table without a name, expected one such as {name = \"small\", k = 16}");
      if (!labels.insert(label_of(value).dump()).second)
        refuse(pointer, fmt::format("found {} twice", label_of(value).dump()));
    }
    return values;
  }

  std::vector<Condition> conditions(const std::string& pointer, const OrderedJson& grid) const {
    const OrderedJson* list = find(pointer);
    std::vector<Condition> result;
    if (list == nullptr) return result;
    if (!list->is_array()) refuse(pointer, "expected tables, [[" + pointer.substr(1) + "]]");
    std::vector<std::string> known;
    for (const auto& [key, values] : grid.items()) known.push_back(key);
    for (size_t i = 0; i < list->size(); ++i) {
      const OrderedJson& values = (*list)[i];
      const std::string at = fmt::format("{}/{}", pointer, i);
      if (!values.is_object() || values.empty()) refuse(at, "expected a table of grid keys");
      check_keys(values, at, known);
      for (const auto& [key, wanted] : values.items())
        for (const OrderedJson& value : wanted.is_array() ? wanted : OrderedJson::array({wanted}))
          if (std::none_of(grid[key].begin(), grid[key].end(),
                           [&](const OrderedJson& have) { return label_of(have) == value; }))
            refuse(at + "/" + key, fmt::format("{} is not in grid.{}", value.dump(), key));
      result.push_back({values});
    }
    return result;
  }

  Step step(const std::string& name) const {
    const std::string pointer = "/steps/" + name;
    if (references("{" + name + "}") != std::vector{name} || name.find('.') != std::string::npos)
      refuse(pointer, "expected a name of letters, digits, _ and -, which begins with a letter");
    const OrderedJson value = table(pointer);
    check_keys(value, pointer, kStepKeys);
    Step step{.name = name,
              .driver = text(pointer + "/driver", ""),
              .options = table(pointer + "/options")};
    if (step.driver.starts_with("vyx-")) step.driver.erase(0, 4);
    if (step.driver.empty())
      refuse(pointer, "found no driver, expected one, such as driver = \"sweep\"");
    if (value.contains("resumes")) {
      if (!value["resumes"].is_boolean()) refuse(pointer + "/resumes", "expected true or false");
      step.resumes = value["resumes"].get<bool>();
    }
    return step;
  }

  Result result(const std::string& name, const OrderedJson& value, const OrderedJson& steps) const {
    const std::string pointer = "/results/" + nlohmann::detail::escape(name);
    if (!value.is_string())
      refuse(pointer, "expected \"STEP.PATH\", a path into what a step prints as JSON");
    const auto path = value.get<std::string>();
    const auto dot = path.find('.');
    if (dot == std::string::npos)
      refuse(pointer, fmt::format("found {}, expected STEP.PATH", quote(path)));
    Result result{.name = name, .step = path.substr(0, dot), .path = path.substr(dot + 1)};
    std::vector<std::string> known;
    for (const auto& [step, ignored] : steps.items()) known.push_back(step);
    if (!steps.contains(result.step))
      refuse(pointer, fmt::format("there is no step {}{}", quote(result.step),
                                  did_you_mean(result.step, known)));
    return result;
  }

  std::vector<std::string> seeds(const OrderedJson& grid) const {
    const OrderedJson* list = find("/seeds");
    if (list == nullptr)
      return grid.contains("seed") ? std::vector<std::string>{"seed"} : std::vector<std::string>{};
    std::vector<std::string> result, known;
    for (const auto& [key, values] : grid.items()) known.push_back(key);
    if (!list->is_array()) refuse("/seeds", "expected a list of grid keys");
    for (const OrderedJson& key : *list) {
      if (!key.is_string() || !grid.contains(key.get<std::string>()))
        refuse("/seeds", fmt::format("{} is not in the grid{}", key.dump(),
                                     did_you_mean(as_text(key), known)));
      result.push_back(key.get<std::string>());
    }
    return result;
  }

  // A grid key that nothing uses would be a column of equal results.
  void check_use(const Experiment& experiment) const {
    std::set<std::string> used;
    const auto use = [&](const OrderedJson& value) {
      for (const std::string& name : references(value)) used.insert(name.substr(0, name.find('.')));
    };
    for (const Step& step : experiment.steps) use(step.options);
    for (const Result& result : experiment.results) use(result.path);
    use(experiment.values);
    use(experiment.files);
    for (const auto& [key, values] : experiment.grid)
      if (!used.contains(key))
        refuse("/grid/" + key,
               "no step refers to {" + key + "}, so that its values change nothing");
  }

  Document document_;
  std::set<std::string> names_;
};

bool matches(const Condition& condition, const Point& point) {
  return std::all_of(point.begin(), point.end(), [&](const auto& coordinate) {
    if (!condition.values.contains(coordinate.first)) return true;
    const OrderedJson& wanted = condition.values[coordinate.first];
    const OrderedJson label = label_of(coordinate.second);
    return wanted.is_array() ? std::find(wanted.begin(), wanted.end(), label) != wanted.end()
                             : wanted == label;
  });
}

}  // namespace

std::vector<std::string> variants_of(const Document& document) {
  std::vector<std::string> names;
  if (!document.value.contains("variants")) return names;
  if (!document.value["variants"].is_object())
    fail("{}: variants: expected tables, [variants.NAME]", document.place("/variants"));
  for (const auto& [name, value] : document.value["variants"].items()) names.push_back(name);
  return names;
}

Document with_variant(const Document& document, const std::string& variant) {
  const std::vector<std::string> known = variants_of(document);
  Document resolved = document;
  if (!variant.empty()) {
    if (std::find(known.begin(), known.end(), variant) == known.end())
      throw UsageError(fmt::format("--variant {}: the experiment has none of that name{}",
                                   quote(variant), did_you_mean(variant, known)));
    const Document over = part_of(document, "/variants/" + nlohmann::detail::escape(variant));
    if (!over.value.is_object() || over.value.contains("variants") ||
        over.value.contains("include"))
      fail("{}: variants.{}: expected a table of what it changes, without variants and includes",
           document.place("/variants/" + nlohmann::detail::escape(variant)), variant);
    merge(resolved, over);
  }
  resolved.value.erase("variants");
  return resolved;
}

Experiment parse_experiment(Document document) {
  return Parser(std::move(document)).parse();
}

std::vector<Point> points_of(const Experiment& experiment) {
  std::vector<Point> points{{}};
  for (const auto& [key, values] : experiment.grid) {
    if (points.size() * values.size() > kMaxPoints)
      fail("{}: grid: found more than {} cells; make it smaller",
           experiment.document.place("/grid"), kMaxPoints);
    std::vector<Point> longer;
    for (const Point& point : points) {
      for (const OrderedJson& value : values) {
        longer.push_back(point);
        longer.back().emplace_back(key, value);
      }
    }
    points = std::move(longer);
  }
  std::erase_if(points, [&](const Point& point) {
    const auto matched = [&](const Condition& condition) { return matches(condition, point); };
    return (!experiment.only.empty() &&
            std::none_of(experiment.only.begin(), experiment.only.end(), matched)) ||
           std::any_of(experiment.exclude.begin(), experiment.exclude.end(), matched);
  });
  if (points.empty())
    fail("{}: only and exclude leave no cell", experiment.document.place("/grid"));
  return points;
}

OrderedJson label_of(const OrderedJson& value) {
  return value.is_object() ? value.value("name", OrderedJson()) : value;
}

}  // namespace vyx::ablation
