#include "steering/directions/extract.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <exception>
#include <filesystem>
#include <utility>

#include "core/base/error.h"
#include "core/base/version.h"

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

std::string place_of(const ContrastSet& set, size_t pair) {
  return pair < set.places.size() ? set.places[pair]
                                  : fmt::format("{}: pair {}", set.source, pair + 1);
}

/// Positive and negative prompts in turns, so that the two that share most are neighbours.
std::vector<std::vector<models::TokenId>> encode(const models::LanguageModel& model,
                                                 const ContrastSet& set) {
  std::vector<std::vector<models::TokenId>> prompts;
  for (size_t i = 0; i < set.pairs.size(); ++i) {
    for (const std::string* side : {&set.pairs[i].positive, &set.pairs[i].negative}) {
      prompts.push_back(model.encode_prompt(*side));
      model.require_context(static_cast<int64_t>(prompts.back().size()), 0, place_of(set, i));
    }
    if (prompts[2 * i] == prompts[2 * i + 1]) {
      fail("{}: the two sides of pair {} are the same tokens; a pair's sides must differ",
           set.source, i + 1);
    }
  }
  return prompts;
}

Provenance provenance_of(const models::LanguageModelConfig& config, const ContrastSet& set,
                         const Method& method) {
  return {
      .model_name = config.provenance.name,
      .model_hint = config.architecture,
      .model_sha256 = config.provenance.sha256,
      .method = std::string(method.name),
      .position = "last",
      .contrast_source = std::filesystem::path(set.source).filename().string(),
      .contrast_sha256 = set.sha256,
      .pairs = static_cast<int64_t>(set.pairs.size()),
      .vyx_version = std::string(kVersion),
  };
}

}  // namespace

ControlVector extract(models::LanguageModel& model, const ContrastSet& set,
                      const ExtractOptions& options) {
  if (set.pairs.empty()) fail("{}: the contrast set is empty; give at least one pair", set.source);
  const Method& method = method_named(options.method);
  const std::vector<Site> sites = choose_sites(model, options.sites);
  const auto prompts = encode(model, set);
  const std::vector<at::Tensor> activations =  // per site: [2 · pairs, d]
      models::last_token_activations(model, prompts, sites, options.activations);
  std::vector<at::Tensor> positive, negative;  // per site: [pairs, d]
  for (const at::Tensor& each : activations) {
    positive.push_back(each.slice(0, 0, each.size(0), 2));
    negative.push_back(each.slice(0, 1, each.size(0), 2));
  }
  return {{},
          provenance_of(model.config(), set, method),
          find_directions(sites, positive, negative, method)};
}

std::vector<SiteDirection> find_directions(std::span<const Site> sites,
                                           std::span<const at::Tensor> positive,
                                           std::span<const at::Tensor> negative,
                                           const Method& method) {
  if (positive.size() != sites.size() || negative.size() != sites.size()) {
    fail("{} sites with {} positive and {} negative activations; expected one of each per site",
         sites.size(), positive.size(), negative.size());
  }
  // One site per thread: faster than threads inside the decompositions, and the result does not
  // depend on their number.
  std::vector<SiteDirection> directions(sites.size());
  std::vector<std::exception_ptr> errors(
      sites.size());  // so that the first site's is thrown, whichever thread is first
  at::parallel_for(0, static_cast<int64_t>(sites.size()), 1, [&](int64_t first, int64_t last) {
    for (auto i = static_cast<size_t>(first); i < static_cast<size_t>(last); ++i) {
      try {
        directions[i] = {sites[i],
                         find_direction({{positive[i], negative[i]}}, method, sites[i].name())};
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
