#include "sae/training/training_page.h"

#include "tests/torch_support.h"

using namespace vyx;
using vyx::test::contains;

TEST_CASE("[sae.training_page] shows the last metrics, the options and the data") {
  std::vector<Json> metrics;
  for (int i = 1; i <= 5; ++i)
    metrics.push_back({{"step", 10 * i},
                       {"tokens", 40960 * i},
                       {"loss", 10.0 / i},
                       {"reconstruction", 9.0 / i},
                       {"explained_variance", 0.125 * i},
                       {"l0", 32.0},
                       {"dead_fraction", 0.0},
                       {"learning_rate", 1e-3},
                       {"sparsity_coefficient", 0.0},
                       {"gradient_norm", 1.0},
                       {"tokens_per_second", 1e4}});
  const std::string html = sae::training_page(
      metrics, {{"architecture", "topk"}, {"latents", 4608}}, {{"model", "a<b"}});
  CHECK(contains(html, "After 204,800 tokens it explains 62.5 % of the variance"));
  CHECK(contains(html, "topk, 4608 latents"));
  CHECK(contains(html, "<td>a&lt;b</td>"));
  CHECK(contains(html, "<td>explained variance</td><td>204800</td><td>0.625</td>"));
  CHECK_FALSE(contains(html, "λ"));  // this run has none
}

TEST_CASE("[sae.training_page] a run without a line, and metrics that are null, give a page") {
  CHECK(contains(sae::training_page({}, {{"architecture", "topk"}}, Json::object()),
                 "logged no step"));
  const std::string html =
      sae::training_page({{{"step", 1}, {"tokens", 8}, {"explained_variance", nullptr}}},
                         Json::object(), Json::object());
  CHECK(contains(html, "no data"));
}
