// A TOML file as JSON, with the keys in the order of the file and the line of each, and with the
// files that it includes merged into it.
#pragma once
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>

namespace vyx::ablation {

using OrderedJson = nlohmann::ordered_json;

struct Document {
  OrderedJson value = OrderedJson::object();
  std::map<std::string, std::string> places;  // "/steps/sweep/driver" → "experiment.toml:12"

  /// Where the value at a JSON pointer was written, or what encloses it.
  std::string place(std::string_view pointer) const;
};

/// Parses TOML. Throws Error with file and line. Bounded in size (1 MiB) and depth; dates, and
/// numbers that are not finite, are refused.
Document parse_toml(std::string_view text, const std::string& file);

/// Reads `path` and what its `include = ["other.toml"]` names, relative to it: tables are merged,
/// and what is in `path` itself wins. Values below `files`, of the experiment and of its variants,
/// become absolute paths, relative to the file that they stand in. Throws Error for files that
/// include each other.
Document read_document(const std::filesystem::path& path);

/// `over` onto `base`: tables are merged key by key, everything else is replaced.
void merge(Document& base, const Document& over);

/// The part of a document below `pointer`, an object; an empty document where there is none.
Document part_of(const Document& document, const std::string& pointer);

/// Applies --set: `KEY=VALUE`, where KEY is a dotted path (steps.sweep.options.max-kl) or the name
/// of something in `files`, `values` or `grid`, and VALUE is TOML, or text if it is not. A file is
/// relative to the working directory; one value for a grid key is a list of one. Throws UsageError.
void set_value(Document& document, const std::string& assignment);

}  // namespace vyx::ablation
