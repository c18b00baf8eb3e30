#include "apps/options/driver.h"

#include <fmt/format.h>
#include <torch/version.h>
#include <boost/program_options.hpp>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <exception>
#include <new>
#include <stdexcept>
#include <utility>
#include <vector>

#include "apps/options/stop_signal.h"
#include "apps/options/terminal.h"
#include "core/base/error.h"
#include "core/base/nearest.h"
#include "core/base/text.h"
#include "core/base/version.h"
#include "core/io/files_read.h"
#include "core/io/overwriting.h"
#include "core/io/temporary_files.h"

namespace vyx::apps {
namespace {

constexpr int kFailed = 1;
constexpr int kWrongUsage = 2;

std::string first_line(std::string text) {
  const auto begin = text.find_first_not_of(" \n");
  text.erase(0, begin == std::string::npos ? text.size() : begin);
  return text.substr(0, text.find('\n'));
}

// Output that never arrived (a full disk, a closed pipe) is a failure, and only the last flush
// knows.
void flush_stdout() {
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0)
    fail("stdout: cannot write; the output is not complete");
}

/// An empty name of a file or a site was never meant: a shell's variable is not set.
void refuse_empty_names(const po::variables_map& values, const std::vector<OptionRow>& rows) {
  for (const OptionRow& row : rows) {
    const bool is_name = row.unit.starts_with("FILE") || row.unit.starts_with("FOLDER") ||
                         row.unit.starts_with("PATTERN") || row.unit.starts_with("SITE");
    if (!is_name || !values.contains(row.name) || values[row.name].defaulted()) continue;
    const boost::any& value = values[row.name].value();
    const auto* one = boost::any_cast<std::string>(&value);
    const auto* many = boost::any_cast<std::vector<std::string>>(&value);
    if ((one != nullptr && one->empty()) ||
        (many != nullptr && std::find(many->begin(), many->end(), "") != many->end()))
      throw UsageError(fmt::format("--{}: found an empty text, expected {}", row.name, row.unit));
  }
}

// LibTorch's allocator throws an error like any other.
bool is_out_of_memory(const std::string& message) {
  return message.find("DefaultCPUAllocator: ") != std::string::npos;
}

// What an option of paths was given, without the "=C" of FILE[=C].
std::vector<PathArgument> paths_of(const OptionRow& row, const po::variables_map& values) {
  if (!row.is_path() || values.count(row.name) == 0) return {};
  const boost::any& value = values[row.name].value();
  std::vector<std::string> texts;
  if (const auto* one = boost::any_cast<std::string>(&value)) texts = {*one};
  if (const auto* many = boost::any_cast<std::vector<std::string>>(&value)) texts = *many;
  std::vector<PathArgument> paths;
  for (std::string& text : texts) {
    if (row.unit.ends_with("[=C]")) text = text.substr(0, text.rfind('='));
    if (!text.empty()) paths.push_back({"--" + row.name, text});
  }
  return paths;
}

// Before the work: nothing that is read is written. What killed runs left where this one writes is
// removed.
void guard_paths(const OptionTable& options, const po::variables_map& values,
                 const CommonOptions& common) {
  std::vector<PathArgument> inputs, outputs;
  for (const OptionRow& row : options.rows())
    for (PathArgument& path : paths_of(row, values))
      (row.written ? outputs : inputs).push_back(std::move(path));
  refuse_overwriting(outputs, inputs);
  for (const PathArgument& output : outputs) {
    std::error_code ignored;
    const bool folder = std::filesystem::is_directory(output.path, ignored);
    for (const Leftover& leftover : remove_leftovers(
             folder ? output.path : std::filesystem::absolute(output.path).parent_path()))
      common.warn(fmt::format("{}: removed {} bytes that a killed program left",
                              leftover.path.string(), leftover.bytes));
  }
}

}  // namespace

Json with_version(Json result) {
  result["version"] = kResultVersion;
  result["files_read"] = files_read();
  return result;
}

Driver::Driver(std::string name, std::string usage, std::string summary, std::string examples)
    : program_{std::move(name), std::move(usage), std::move(summary), std::move(examples), {}} {
  shared_("help,h", help_, "show this; with --json, the same as JSON");
  shared_("version", version_, "show the version of vyx and of LibTorch");
  common_.add_to(shared_);
}

std::vector<OptionGroup> Driver::groups() const {
  return {{"options", own_.rows()}, {"common options", shared_.rows()}};
}

void Driver::refuse_unknown(const std::string& given) const {
  const std::string name = given.substr(0, given.find('='));
  std::vector<std::string> known;
  for (const OptionGroup& group : groups())
    for (const OptionRow& row : group.rows) known.push_back("--" + row.name);
  throw UsageError(fmt::format("there is no option {}{}", name, did_you_mean(name, known)));
}

void Driver::require_effect(const std::map<std::string, std::string>& given) const {
  const auto value = [&](const std::string& name) -> std::optional<std::string> {
    if (const auto found = given.find(name); found != given.end()) return found->second;
    for (const OptionGroup& group : groups())
      for (const OptionRow& row : group.rows)
        if (row.name == name) return row.standard;
    return std::nullopt;
  };
  const GivenOptions options{[&](const std::string& name) { return given.contains(name); }, value};
  for (const OptionGroup& group : groups())
    for (const OptionRow& row : group.rows)
      if (given.contains(row.name))
        if (const std::string line = no_effect(row.name, row.conditions, options); !line.empty())
          throw UsageError(line);
}

int Driver::parse_and_work(int argc, char** argv,
                           const std::function<Json(const CommonOptions&)>& work) {
  po::options_description all;
  all.add(own_.parser()).add(shared_.parser());
  po::positional_options_description positional;
  for (const std::string& option : positional_) positional.add(option.c_str(), 1);
  // Without guessing: an abbreviation that is unique today is ambiguous with the next option.
  const int style = po::command_line_style::default_style & ~po::command_line_style::allow_guessing;
  po::variables_map values;
  std::map<std::string, std::string> given;  // name → the last value, as it was typed
  try {
    const po::parsed_options parsed =
        po::command_line_parser(argc, argv).options(all).positional(positional).style(style).run();
    for (const auto& option : parsed.options)
      given[option.string_key] = option.value.empty() ? "" : option.value.back();
    po::store(parsed, values);
  } catch (const po::unknown_option& error) {
    refuse_unknown(error.get_option_name());
  }
  if (values.at("help").as<bool>()) {
    if (values.at("json").as<bool>())
      fmt::print("{}\n", help_json(program_, groups()).dump(2));
    else
      fmt::print("{}", help_text(program_, groups()));
  } else if (values.at("version").as<bool>()) {
    fmt::print("{} {} (LibTorch {})\n", program_.name, kVersion, TORCH_VERSION);
  } else {
    for (const OptionGroup& group : groups()) refuse_empty_names(values, group.rows);
    po::notify(values);
    for (const auto& [name, value] : values)
      if (!value.defaulted()) common_.given.insert(name);
    guard_paths(own_, values, common_);
    require_effect(given);
    common_.apply();
    const Json result = work(common_);
    // A path or a prompt has whatever bytes it was given in.
    if (common_.json)
      fmt::print("{}\n", with_version(result).dump(2, ' ', false, Json::error_handler_t::replace));
  }
  flush_stdout();
  return 0;
}

int Driver::run(int argc, char** argv, const std::function<Json(const CommonOptions&)>& work) {
  std::signal(SIGXFSZ, SIG_IGN);  // a file-size limit is then an error of write(), with a message
  const auto report = [&](const std::string& message, int code) {
    std::fflush(stdout);
    fmt::print(stderr, "{}: {}{}\n", program_.name, printable(message),
               code == kWrongUsage ? "; see " + program_.name + " --help" : "");
    return code;
  };
  constexpr const char* kOutOfMemory = "out of memory; try a smaller batch or a smaller model";
  try {
    guard_terminal();
    end_at_stop_signals();
    return parse_and_work(argc, argv, work);
  } catch (const UsageError& error) {
    return report(error.what(), kWrongUsage);
  } catch (const po::error& error) {
    return report(error.what(), kWrongUsage);
  } catch (const std::bad_alloc&) {
    return report(kOutOfMemory, kFailed);
  } catch (const std::length_error&) {  // a container beyond what can be
    return report(kOutOfMemory, kFailed);
  } catch (const std::exception& error) {
    return report(is_out_of_memory(error.what()) ? kOutOfMemory : first_line(error.what()),
                  kFailed);
  }
}

}  // namespace vyx::apps
