// Drivers as descriptions, without programs: "make" writes a file, "use" reads one.
#pragma once
#include "apps/ablation/plan.h"
#include "core/base/error.h"

namespace vyx::test {

class FakeDrivers : public ablation::DriverCatalog {
 public:
  const ablation::DriverInfo& find(const std::string& name, const std::string& place) override {
    for (const auto& driver : drivers_)
      if (driver.name == "vyx-" + name) return driver;
    fail("{}: no driver {}", place, name);
  }
  /// The program that all of them are.
  void set_program(const std::filesystem::path& path) {
    for (auto& driver : drivers_) driver.path = path;
  }

 private:
  using Option = ablation::DriverOption;
  static std::vector<Option> with_common(std::vector<Option> options) {
    for (const char* name : {"seed", "threads"})
      options.push_back({.name = name, .value = "N", .type = Option::Type::integer});
    options.push_back({.name = "device", .value = "NAME"});
    return options;
  }
  std::vector<ablation::DriverInfo> drivers_{
      {.name = "vyx-make",
       .sha256 = "00",
       .options = with_common({{.name = "method", .value = "NAME"},
                               {.name = "k", .value = "N", .type = Option::Type::integer},
                               {.name = "fast", .type = Option::Type::flag},
                               {.name = "text", .value = "FILE…", .many = true},
                               {.name = "out", .value = "FILE", .required = true}})},
      {.name = "vyx-use",
       .sha256 = "00",
       .options = with_common(
           {{.name = "vector", .value = "FILE[=C]", .many = true, .required = true},
            {.name = "coefficients", .value = "C…", .type = Option::Type::number, .many = true},
            {.name = "max-kl", .value = "NATS", .type = Option::Type::number}})},
      {.name = "vyx-copy",
       .sha256 = "00",
       .options = {{.name = "out", .value = "FILE", .required = true},
                   {.name = "seed",
                    .value = "N",
                    .type = Option::Type::integer,
                    .conditions = {{OptionCondition::Kind::never, {}, {"nothing is random"}}}},
                   {.name = "threads", .value = "N", .type = Option::Type::integer},
                   {.name = "device",
                    .value = "NAME",
                    .conditions = {{OptionCondition::Kind::not_with, {"out"}, {}}}}}},
  };
};

}  // namespace vyx::test
