// What tests/parity/test_statistics.py talks to.
#include "apps/compare/intervals.h"
#include "apps/compare/sign_flip.h"
#include "core/base/student_t.h"
#include "tests/parity/commands.h"

namespace {

using vyx::Json;
using vyx::test::Words;

/// "[[values], [clusters]]"
struct Items {
  explicit Items(const std::string& text) {
    const Json json = Json::parse(text);
    values = json[0].get<std::vector<double>>();
    clusters = json[1].get<std::vector<size_t>>();
  }
  std::vector<double> values;
  std::vector<size_t> clusters;
};

Json to_json(const vyx::compare::Interval& interval) {
  return {interval.low, interval.high};
}

Json student_t(const Words& words) {  // p, degrees
  return vyx::student_t_quantile(std::stod(words.at(0)), std::stod(words.at(1)));
}

Json interval(const Words& words) {
  const Items items(words.at(0));
  return to_json(vyx::compare::mean_interval(items.values, items.clusters, 9'999, 1));
}

Json flip(const Words& words) {
  const Items items(words.at(0));
  const auto result = vyx::compare::sign_flip(items.values, items.clusters, 1);
  return {{"p", result.p}, {"interval", to_json(result.interval)}};
}

Json share(const Words& words) {
  return to_json(vyx::compare::share_interval(Json::parse(words.at(0)).get<std::vector<double>>()));
}

}  // namespace

int main(int argc, char** argv) {
  return vyx::test::run_command(
      {{"student-t", student_t}, {"interval", interval}, {"flip", flip}, {"share", share}}, argc,
      argv);
}
