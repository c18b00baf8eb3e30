#include "core/hooks/script_records.h"

#include <algorithm>
#include <set>
#include <string_view>

#include "core/base/error.h"
#include "core/base/text.h"

namespace vyx {
namespace {

constexpr uint64_t kMaxCode = 32u << 20;

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

ZipArchive parse_zip(std::span<const std::byte> archive, const std::string& source) {
  try {
    return ZipArchive::parse(archive, source);
  } catch (const Error& error) {
    fail("{}; the zip file is truncated or damaged, fetch or write it again", error.what());
  }
}

std::string folder_of(const ZipArchive& zip) {
  bool has_data = false;
  for (const ZipEntry& entry : zip.entries()) {
    if (lower(entry.name).ends_with("/constants.pkl"))
      return entry.name.substr(0, entry.name.find('/') + 1);
    has_data = has_data || entry.name.ends_with("/data.pkl");
  }
  fail(
      "{}: found {}, expected a TorchScript archive; save one with "
      "torch.jit.script(model).save(path)",
      zip.source(),
      has_data ? "a pickle of torch.save (weights without code)" : "a zip file of another kind");
}

// LibTorch finds records whatever the case of their letters; vyx looks for them as they are.
void check_record(const ZipEntry& entry, const std::string& folder, const std::string& source) {
  if (!entry.name.starts_with(folder))
    fail("{}: found {} outside {}, expected one folder", source, quote(entry.name), quote(folder));
  const std::string name = entry.name.substr(folder.size()), lowered = lower(name);
  const bool code = lowered.starts_with("code/"),
             weights = lowered.starts_with("data/") || lowered.starts_with("constants/");
  const bool known = code || weights || lowered == "data.pkl" || lowered == "constants.pkl";
  if ((known && lowered.substr(0, lowered.find('/')) != name.substr(0, name.find('/'))) ||
      (code && lowered.substr(lowered.rfind('.') + 1) != name.substr(name.rfind('.') + 1)))
    fail("{}: found the record {}, expected its name in lower case", source, quote(entry.name));
  if (lowered == "model.json")
    fail("{}: found model.json, an archive of torch before 1.4; load and save it in Python",
         source);
  if (weights && entry.deflated)
    fail("{}: found a compressed record {}, expected a stored one", source, quote(entry.name));
}

}  // namespace

ScriptRecords script_records(std::span<const std::byte> archive, const std::string& source) {
  ScriptRecords records{parse_zip(archive, source), {}};
  records.folder = folder_of(records.zip);
  std::set<std::string> names;
  for (const ZipEntry& entry : records.zip.entries()) {
    check_record(entry, records.folder, source);
    if (!names.insert(lower(entry.name)).second)
      fail("{}: found the record {}, expected names that differ in more than case", source,
           quote(entry.name));
  }
  return records;
}

std::vector<ScriptCode> read_code(const ScriptRecords& records) {
  const std::string folder = records.folder + "code/";
  constexpr std::string_view kSuffix = ".py";
  std::vector<ScriptCode> files;
  uint64_t size = 0;
  for (const ZipEntry& entry : records.zip.entries()) {
    if (!entry.name.starts_with(folder) || !entry.name.ends_with(kSuffix)) continue;
    size += entry.size;
    if (size > kMaxCode)
      fail("{}: found more than {} bytes of code, expected at most that", records.zip.source(),
           kMaxCode);
    const ZipContent content = records.zip.read(entry);
    std::string unit =
        entry.name.substr(folder.size(), entry.name.size() - folder.size() - kSuffix.size());
    std::replace(unit.begin(), unit.end(), '/', '.');
    files.push_back(
        {std::move(unit),
         fmt::format("{}: {}", records.zip.source(), entry.name.substr(records.folder.size())),
         std::string(reinterpret_cast<const char*>(content.bytes.data()), content.bytes.size())});
  }
  return files;
}

}  // namespace vyx
