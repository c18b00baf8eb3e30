// What an experiment file says: drivers to run as steps, a grid of values for their options, and
// which numbers of what they print are the results. apps/experiments/README.md describes the
// format.
#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "apps/ablation/document.h"

namespace vyx::ablation {

struct Step {
  std::string name, driver;  // driver: "vector" for vyx-vector
  OrderedJson options;       // by name, with references
  bool resumes = false;      // the driver goes on from what an interrupted run left in its folder
};

struct Result {
  std::string name, step, path;  // path into the step's JSON: "rows[coefficient=4].shift"
};

struct Condition {
  OrderedJson values;  // grid key → the value, or the list of values, that it holds for
};

struct Experiment {
  std::string title, description;
  /// Of each driver. Part of every step: another number rounds sums in another order.
  int threads = 1;
  uint64_t seed = 0;
  std::string device = "cpu";
  OrderedJson values = OrderedJson::object();  // names for references
  OrderedJson files = OrderedJson::object();   // names of input files and folders, absolute
  // key → list of values; a table among them has a name.
  std::vector<std::pair<std::string, OrderedJson>> grid;
  std::vector<Condition> only, exclude;  // cells that are kept, and that are not
  std::vector<Step> steps;
  std::vector<Result> results;
  std::vector<std::string> seeds;  // grid keys that tables average over
  Document document;               // as resolved, for the manifest and for the lines in messages
};

/// The names of a document's variants, in order.
std::vector<std::string> variants_of(const Document& document);

/// The document with one of its variants merged over it ("": none), and the variants gone. Throws
/// UsageError for one that it has not.
Document with_variant(const Document& document, const std::string& variant);

/// Throws Error, with file and line and the nearest good key, for whatever does not belong there.
Experiment parse_experiment(Document document);

/// One point of the grid: key → value, in the grid's order.
using Point = std::vector<std::pair<std::string, OrderedJson>>;

/// The points of an experiment's grid, the last key running fastest, without those that `only` and
/// `exclude` leave out. Throws Error for more than 100,000.
std::vector<Point> points_of(const Experiment& experiment);

/// A grid value as rows and tables show it: a table by its name.
OrderedJson label_of(const OrderedJson& value);

}  // namespace vyx::ablation
