// The options of vyx-sae-train: an architecture, its size, and what differs from its published
// recipe.
#pragma once
#include <algorithm>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "apps/options/driver.h"
#include "sae/store/activation_source.h"
#include "sae/training/recipe.h"

namespace vyx::apps {

class RecipeOptions {
 public:
  /// Adds the options to `driver`; both stay where they are until it has parsed.
  explicit RecipeOptions(Driver& driver);
  RecipeOptions(const RecipeOptions&) = delete;
  RecipeOptions& operator=(const RecipeOptions&) = delete;

  /// Throws UsageError for what is wrong whatever the activations are, before they are opened.
  void check() const { (void)options(1, uint64_t{1} << 40, 0); }
  int64_t batch() const { return recipe_.batch; }  // tokens per step
  bool skip() const {                              // whether --skip was given
    return std::find(given_.begin(), given_.end(), "skip") != given_.end();
  }
  /// The run on these activations: one pass over them when neither --tokens nor --steps is given.
  /// Throws UsageError.
  sae::TrainOptions options(const sae::ActivationSource& source, uint64_t seed) const;

 private:
  bool has_length() const { return tokens_ || steps_; }
  sae::TrainOptions options(int64_t width, uint64_t rows, uint64_t seed) const;
  template <class Field>
  void overriding(OptionTable& option, const char* name, Field field, const char* unit,
                  const std::string& help);

  sae::RecipeInput recipe_;
  std::string architecture_{sae::name_of(recipe_.architecture)},
      sparsity_form_{sae::name_of(recipe_.jump_relu)}, prefixes_;
  std::optional<uint64_t> tokens_, steps_;
  std::vector<std::string> given_;  // of the options that follow
  // Of the recipe, in the order they were given.
  std::vector<std::function<void(sae::TrainOptions&)>> overrides_;
};

}  // namespace vyx::apps
