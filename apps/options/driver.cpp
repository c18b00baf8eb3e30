#include "apps/options/driver.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <torch/version.h>

#include <array>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <exception>
#include <new>
#include <typeinfo>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/base/version.h"

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

struct ValueType {
  const std::type_info& type;
  const char* name;
  bool many;  // the option may be given more than once
};

const std::array<ValueType, 8>& value_types() {
  static const std::array<ValueType, 8> types{{{typeid(int), "integer", false},
                                               {typeid(int64_t), "integer", false},
                                               {typeid(uint64_t), "integer", false},
                                               {typeid(double), "number", false},
                                               {typeid(std::string), "text", false},
                                               {typeid(std::vector<int64_t>), "integer", true},
                                               {typeid(std::vector<double>), "number", true},
                                               {typeid(std::vector<std::string>), "text", true}}};
  return types;
}

// {"name", "type": switch, integer, number or text, "many", "required", "help"}, and what there is
// of "value" (FILE, N, …) and "default".
Json option_json(const po::option_description& option) {
  const po::value_semantic& semantic = *option.semantic();
  Json json{{"name", option.long_name()},
            {"type", semantic.max_tokens() == 0 ? "switch" : "text"},
            {"many", semantic.max_tokens() > 1},
            {"required", semantic.is_required()},
            {"help", option.description()}};
  if (semantic.max_tokens() == 0) return json;
  if (const auto* typed = dynamic_cast<const po::typed_value_base*>(&semantic)) {
    for (const ValueType& known : value_types()) {
      if (typed->value_type() != known.type) continue;
      json["type"] = known.name;
      json["many"] = known.many;
    }
  }
  const std::string name = semantic.name();  // "N (=16)"
  const auto begin = name.find(" (=");
  json["value"] = name.substr(0, begin);
  if (begin != std::string::npos) json["default"] = name.substr(begin + 3, name.size() - begin - 4);
  return json;
}

Json options_json(const po::options_description& options) {
  Json list = Json::array();
  for (const auto& option : options.options())
    if (option->long_name() != "help" && option->long_name() != "version")
      list.push_back(option_json(*option));
  return list;
}

}  // namespace

c10::Device CommonOptions::torch_device() const {
  c10::Device parsed = c10::kCPU;
  try {
    parsed = c10::Device(device);
  } catch (const c10::Error&) {
    throw UsageError(
        fmt::format("--device {}: no such device, expected cpu, cuda or cuda:N", device));
  }
  if (parsed.is_cuda() && !at::globalContext().hasCUDA())
    fail("--device {}: this LibTorch finds no CUDA device; use --device cpu", device);
  return parsed;
}

void CommonOptions::warn(const std::string& message) const {
  if (!quiet) fmt::print(stderr, "warning: {}\n", message);
}

Driver::Driver(std::string name, std::string usage, std::string summary, std::string examples)
    : name_(std::move(name)),
      usage_(std::move(usage)),
      summary_(std::move(summary)),
      examples_(std::move(examples)),
      own_("options", 100, 50),
      shared_("common options", 100, 50) {
  shared_.add_options()("help,h", "show this; with --json, the options as JSON")(
      "version", "show the version of vyx and of LibTorch")("json", po::bool_switch(&common_.json),
                                                            "print one JSON object on stdout")(
      "quiet,q", po::bool_switch(&common_.quiet), "no progress, no warnings")(
      "seed", po::value(&common_.seed)->default_value(common_.seed)->value_name("N"),
      "of everything random")(
      "threads", po::value(&common_.threads)->default_value(common_.threads)->value_name("N"),
      "CPU threads; 0: one a core")(
      "device", po::value(&common_.device)->default_value(common_.device)->value_name("NAME"),
      "cpu, cuda or cuda:N");
}

void Driver::print_help() const {
  fmt::print("usage: {} {}\n\n{}\n\nexamples:\n{}\n", name_, usage_, summary_, examples_);
  std::ostringstream text;
  text << own_ << '\n' << shared_;
  fmt::print("{}", text.str());
}

int Driver::parse_and_work(int argc, char** argv,
                           const std::function<Json(const CommonOptions&)>& work) {
  po::options_description all;
  all.add(own_).add(shared_);
  po::variables_map values;
  // Without guessing: an abbreviation that is unique today is ambiguous with the next option.
  const int style = po::command_line_style::default_style & ~po::command_line_style::allow_guessing;
  po::store(
      po::command_line_parser(argc, argv).options(all).positional(positional_).style(style).run(),
      values);
  if (values.count("help") != 0) {
    if (values.at("json").as<bool>())
      fmt::print("{}\n", Json{{"name", name_},
                              {"usage", usage_},
                              {"summary", summary_},
                              {"options", options_json(all)}}
                             .dump(2));
    else
      print_help();
  } else if (values.count("version") != 0) {
    fmt::print("{} {} (LibTorch {})\n", name_, kVersion, TORCH_VERSION);
  } else {
    po::notify(values);
    if (common_.threads < 0 || common_.threads > 4096)
      throw UsageError(
          fmt::format("--threads {}: expected 0 (one a core) to 4096", common_.threads));
    if (common_.threads > 0) at::set_num_threads(common_.threads);
    const Json result = work(common_);
    if (common_.json) fmt::print("{}\n", result.dump(2));
  }
  flush_stdout();
  return 0;
}

int Driver::run(int argc, char** argv, const std::function<Json(const CommonOptions&)>& work) {
  std::signal(SIGXFSZ, SIG_IGN);  // a file-size limit is then an error of write(), with a message
  const auto report = [&](const std::string& message, int code) {
    std::fflush(stdout);
    fmt::print(stderr, "{}: {}{}\n", name_, message,
               code == kWrongUsage ? "; see " + name_ + " --help" : "");
    return code;
  };
  try {
    return parse_and_work(argc, argv, work);
  } catch (const UsageError& error) {
    return report(error.what(), kWrongUsage);
  } catch (const po::error& error) {
    return report(error.what(), kWrongUsage);
  } catch (const std::bad_alloc&) {
    return report("out of memory; try a smaller batch or a smaller model", kFailed);
  } catch (const std::exception& error) {
    return report(first_line(error.what()), kFailed);
  }
}

NamedNumber parse_named_number(const std::string& text, double without) {
  const auto equals = text.rfind('=');
  if (equals == std::string::npos) return {text, without};
  const std::string number = text.substr(equals + 1);
  size_t used = 0;
  double value = 0;
  try {
    value = std::stod(number, &used);
  } catch (const std::exception&) {
    used = 0;
  }
  if (number.empty() || used != number.size() || !std::isfinite(value))
    throw UsageError(
        fmt::format("{}: '{}' is not a finite number, expected NAME=NUMBER", text, number));
  return {text.substr(0, equals), value};
}

Json json_number_or_null(double value) {
  return std::isfinite(value) ? Json(value) : Json(nullptr);
}

}  // namespace vyx::apps
