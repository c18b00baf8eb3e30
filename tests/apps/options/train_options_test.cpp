#include "apps/options/train_options.h"

#include <set>

#include "tests/torch_support.h"

namespace vyx::apps {
namespace {

std::set<std::string> names_of(const OptionTable& table) {
  std::set<std::string> names{"seed"};  // common to all programs
  for (const OptionRow& row : table.rows()) names.insert(row.name);
  return names;
}

TEST_CASE("[options.train_options] what a run's record calls an option is one") {
  Driver driver("vyx-sae-train", "", "", "");
  const RecipeOptions options(driver);
  const std::set<std::string> names = names_of(driver.options());
  size_t options_seen = 0, others_seen = 0;
  for (const auto architecture :
       {sae::Architecture::relu, sae::Architecture::gated, sae::Architecture::topk,
        sae::Architecture::batch_topk, sae::Architecture::jump_relu})
    for (const auto form : {sae::JumpReluSparsity::l0, sae::JumpReluSparsity::l0_target,
                            sae::JumpReluSparsity::tanh}) {
      const sae::TrainOptions recipe = sae::recipe({.architecture = architecture,
                                                    .jump_relu = form,
                                                    .width = 8,
                                                    .latents = 64,
                                                    .tokens = 1 << 20});
      const Json json = sae::to_json(recipe);
      for (const auto& item : json.items()) {
        CAPTURE(item.key());
        CHECK(sae::is_option(item.key()) == names.contains(item.key()));
        ++(sae::is_option(item.key()) ? options_seen : others_seen);
      }
    }
  CHECK((options_seen > 100 && others_seen > 50));
}

}  // namespace
}  // namespace vyx::apps
