// Files of records that people write or export: JSON Lines, a JSON array of objects, or a table.
#pragma once
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <string>
#include <string_view>

#include "core/base/json_guard.h"

namespace vyx {

/// Calls `take` with each record, an object, and with where it stands ("pairs.jsonl:2",
/// "pairs.json, item 2"). Read are
///
///     {"positive": "…", "negative": "…"}        JSON Lines: one object per line
///     [{…}, {…}]                                a JSON array of objects
///     positive,negative                         CSV (RFC 4180) or TSV with a line of names, which
///     "…","…"                                   hold `keys`; all values are strings
///
/// plain or gzip, told apart by how the file begins. Throws Error for what is none of these, naming
/// the place and the keys.
void for_each_record(const std::filesystem::path& path, std::initializer_list<const char*> keys,
                     const std::function<void(const Json& record, const std::string& where)>& take);

}  // namespace vyx
