// Comma-separated values after RFC 4180.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace vyx {

/// `text` as one field: in quotes, with its own quotes doubled, where it holds a comma, a quote or
/// a line end; else as it is.
std::string csv_field(std::string_view text);

/// The fields as one record, with the line end behind it. RFC 4180's is "\r\n".
std::string csv_record(const std::vector<std::string>& fields, std::string_view line_end = "\r\n");

}  // namespace vyx
