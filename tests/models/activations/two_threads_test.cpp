#include "tests/torch_support.h"

#include <array>
#include <atomic>
#include <functional>
#include <thread>

#include "core/io/files.h"
#include "models/activations/gradients.h"
#include "models/activations/harvest.h"
#include "models/activations/harvest_inputs.h"
#include "models/activations/last_token_activations.h"
#include "models/activations/logit_lens.h"
#include "models/activations/row_activations.h"
#include "tests/models/tiny_model.h"

namespace {

using namespace vyx;
using namespace vyx::models;
using Rows = std::vector<std::vector<TokenId>>;

/// Ways to read the activations of one site, each of one of two inputs of one shape.
class Readers {
 public:
  explicit Readers(LanguageModel& model) : model_(model), site_{model.block_output(2)} {
    for (size_t i = 0; i < 2; ++i) {
      const std::string text = i == 0 ? "here is a text" : "another, a b c";
      rows_[i] = {model.encode_prompt(text)};
      write_file(file(i), text);
      vectors_[i] = at::full({2, 32}, static_cast<double>(i) - 0.5);
      vectors_[i][0].fill_(1).slice(0, 3 + static_cast<int64_t>(i)).fill_(2);
    }
  }

  const std::vector<std::pair<std::string, std::function<at::Tensor(size_t input)>>> all = {
      {"last tokens",
       [this](size_t i) { return last_token_activations(model_, rows_[i], site_)[0]; }},
      {"rows",
       [this](size_t i) {
         at::Tensor x;
         for_each_batch(model_, rows_[i], site_[0],
                        [&](const TokenActivations& batch) { x = batch.x; });
         return x;
       }},
      {"gradients",
       [this](size_t i) {
         at::Tensor x;
         const std::array rows{Continuation{.prompt = rows_[i][0], .text = {70, 71}}};
         for_each_gradient(model_, rows, site_[0], [&](const SiteGradients& batch) {
           x = at::stack({batch.x, batch.gradient});
         });
         return x;
       }},
      {"a harvest",
       [this](size_t i) {
         Harvest harvest(text_input(model_, TextSource({file(i)})),
                         {.sites = {site_[0]}, .sink_threshold = 0});
         return harvest.next()->front();
       }},
      {"what enters a block",
       [this](size_t i) {
         const Batch batch = make_batch(rows_[i], Padding::right, 0);
         KvCache cache = model_.make_cache(1, batch.ids.size(1));
         BlockInput input{.block = 2, .hidden = {}};
         model_.extend_from(input, cache, batch);
         return input.hidden;
       }},
      {"the logit lens", [this](size_t i) { return logit_lens(model_, vectors_[i]); }},
  };

 private:
  std::filesystem::path file(size_t i) const { return folder_ / (i == 0 ? "a.txt" : "b.txt"); }

  LanguageModel& model_;
  std::array<Site, 1> site_;
  std::array<Rows, 2> rows_;
  std::array<at::Tensor, 2> vectors_;  // [2, d_model]
  test::TemporaryFolder folder_;
};

/// What `read` throws, of whatever kind; "" for nothing.
std::string thrown_by(const std::function<void()>& read) {
  try {
    read();
  } catch (const std::exception& error) {
    return error.what();
  }
  return {};
}

}  // namespace

TEST_CASE("[models.activations] two threads that share a model get their own values") {
  LanguageModel model = test::tiny_model({.seed = 3});
  const Readers readers(model);
  for (const auto& [mine, read_mine] : readers.all) {
    for (const auto& [theirs, read_theirs] : readers.all) {
      CAPTURE(mine);
      CAPTURE(theirs);
      const at::Tensor expected_mine = read_mine(0), expected_theirs = read_theirs(1);

      // The other thread runs from beginning to end while this one stands in the first block.
      at::Tensor found_theirs;
      std::string error;
      std::atomic<bool> interrupted{false};
      const HookHandle interruption =
          model.module().hook("model.layers.0:input", [&](const Site&, const c10::IValue&) {
            if (!interrupted.exchange(true))
              std::thread([&] {
                error = thrown_by([&] { found_theirs = read_theirs(1); });
              }).join();
            return std::optional<c10::IValue>();
          });
      at::Tensor found_mine;
      CHECK(thrown_by([&] { found_mine = read_mine(0); }) == "");
      CHECK(error == "");
      REQUIRE(interrupted);
      if (found_mine.defined()) CHECK(at::equal(found_mine, expected_mine));
      if (found_theirs.defined()) CHECK(at::equal(found_theirs, expected_theirs));
    }
  }
}
