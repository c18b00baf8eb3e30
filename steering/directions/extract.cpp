#include "steering/directions/extract.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <exception>
#include <filesystem>
#include <utility>

#include "core/base/error.h"
#include "core/base/version.h"
#include "steering/directions/contrast_reading.h"

namespace vyx::steering {
namespace {

std::vector<Site> choose_sites(models::LanguageModel& model, const std::string& pattern) {
  if (!pattern.empty()) return model.module().match(pattern);
  std::vector<Site> sites;
  for (int64_t block = 1; block < model.config().spec.layers(); ++block)
    sites.push_back(model.block_output(block));
  if (sites.empty()) {
    fail("{}: has one block only, and block 0 is left out unless it is asked for; give sites",
         model.config().provenance.name);
  }
  return sites;
}

Provenance provenance_of(const models::LanguageModelConfig& config, const ContrastSet& set,
                         int64_t pairs, const Method& method) {
  return {
      .model_name = config.provenance.name,
      .model_hint = config.architecture,
      .model_sha256 = config.provenance.sha256,
      .method = std::string(method.name),
      .position = "last",
      .contrast_source = std::filesystem::path(set.source).filename().string(),
      .contrast_sha256 = set.sha256,
      .pairs = pairs,
      .vyx_version = std::string(kVersion),
  };
}

}  // namespace

ControlVector extract(models::LanguageModel& model, const ContrastSet& set,
                      const ExtractOptions& options) {
  const Method& method = method_named(options.method);
  const std::vector<Site> sites = choose_sites(model, options.sites);
  const ContrastReading reading = read_contrast(model, set, sites, options.activations);
  if (!reading.warning.empty() && options.on_warning) options.on_warning(reading.warning);
  return {{},
          provenance_of(model.config(), set, reading.sites.front().positive.size(0), method),
          find_directions(sites, reading.sites, method)};
}

std::vector<SiteDirection> find_directions(std::span<const Site> sites,
                                           std::span<const ContrastActivations> pairs,
                                           const Method& method) {
  if (pairs.size() != sites.size())
    fail("{} sites with the activations of {}; expected those of each", sites.size(), pairs.size());
  // One site per thread: faster than threads inside the decompositions, and the result does not
  // depend on their number.
  std::vector<SiteDirection> directions(sites.size());
  std::vector<std::exception_ptr> errors(
      sites.size());  // so that the first site's is thrown, whichever thread is first
  at::parallel_for(0, static_cast<int64_t>(sites.size()), 1, [&](int64_t first, int64_t last) {
    for (auto i = static_cast<size_t>(first); i < static_cast<size_t>(last); ++i) {
      try {
        directions[i] = {sites[i], find_direction({pairs[i]}, method, sites[i].name())};
      } catch (...) {
        errors[i] = std::current_exception();
      }
    }
  });
  for (const std::exception_ptr& error : errors) {
    if (error) std::rethrow_exception(error);
  }
  return directions;
}

}  // namespace vyx::steering
