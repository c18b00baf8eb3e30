#include "apps/ablation/step_record.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/io/digest.h"
#include "core/io/files.h"

namespace vyx::ablation {
namespace {

constexpr uint64_t kMaxBytes = 256u << 20;

StepRecord parse_record(const Json& json, const std::string& source) {
  StepRecord record{.identity = json.at("identity"),
                    .driver_sha256 = json_string(json, "driver_sha256", source),
                    .output = json.at("output"),
                    .warnings = json.at("warnings").get<std::vector<std::string>>(),
                    .seconds = json_number(json, "seconds", source)};
  for (const auto& [name, file] : json.at("files").items())
    record.files[name] = {
        .bytes = static_cast<uint64_t>(json_integer(file, "bytes", source, 0, INT64_MAX)),
        .sha256 = json_string(file, "sha256", source)};
  json.at("inputs").get_to(record.inputs);
  return record;
}

}  // namespace

std::optional<StepRecord> read_step(const std::filesystem::path& folder, const PlannedStep& step) {
  const auto path = folder / "step.json";
  std::error_code unknown;
  if (!std::filesystem::exists(path, unknown)) return std::nullopt;
  StepRecord record;
  try {
    record =
        parse_record(parse_json(read_text_file(path, kMaxBytes), path.string()), path.string());
  } catch (const Json::exception&) {  // not a record: the step runs again
    return std::nullopt;
  } catch (const Error&) {
    return std::nullopt;
  }
  const bool whole = std::all_of(record.files.begin(), record.files.end(), [&](const auto& file) {
    return std::filesystem::file_size(folder / "files" / file.first, unknown) == file.second.bytes;
  });
  if (!whole || record.identity != Json(step.identity)) return std::nullopt;
  return record;
}

void write_step(const std::filesystem::path& folder, const StepRecord& record) {
  Json files = Json::object();
  for (const auto& [name, file] : record.files)
    files[name] = {{"bytes", file.bytes}, {"sha256", file.sha256}};
  const Json json{{"identity", record.identity}, {"driver_sha256", record.driver_sha256},
                  {"output", record.output},     {"files", files},
                  {"inputs", record.inputs},     {"warnings", record.warnings},
                  {"seconds", record.seconds}};
  write_file(folder / "step.json", json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
}

std::map<std::string, OutputFile> digest_files(const std::filesystem::path& folder) {
  std::map<std::string, OutputFile> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
    if (entry.is_regular_file())
      files[entry.path().lexically_relative(folder).string()] = {
          .bytes = entry.file_size(), .sha256 = sha256_file(entry.path())};
  return files;
}

}  // namespace vyx::ablation
