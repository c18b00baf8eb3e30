#include "sae/training/training_page.h"

#include <fmt/format.h>

#include <cmath>
#include <utility>

#include "core/base/text.h"
#include "core/report/page.h"
#include "sae/training/training_warnings.h"

namespace vyx::sae {
namespace {

double number(const Json& line, const char* key) {
  const auto found = line.find(key);
  return found != line.end() && found->is_number() ? found->get<double>() : std::nan("");
}

Curve curve(const std::vector<Json>& metrics, std::string name, const char* key) {
  Curve curve{std::move(name), {}, {}};
  for (const Json& line : metrics) {
    curve.x.push_back(number(line, "tokens"));
    curve.y.push_back(number(line, key));
  }
  return curve;
}

std::string cell(const Json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

std::vector<std::vector<std::string>> rows_of(const Json& object) {
  std::vector<std::vector<std::string>> rows;
  for (const auto& [key, value] : object.items()) rows.push_back({key, cell(value)});
  return rows;
}

}  // namespace

std::string training_page(const std::vector<Json>& metrics, const Json& options,
                          const Json& provenance) {
  const std::string architecture = options.value("architecture", "");
  Page page(fmt::format("Training of a sparse autoencoder: {}, {} latents", architecture,
                        options.value("latents", 0)));
  if (metrics.empty()) {
    page.paragraph("The run logged no step.");
  } else {
    const Json& last = metrics.back();
    page.paragraph(fmt::format(
        "After {} tokens it explains {:.1f} % of the variance of its activations with {:.1f} "
        "latents per token; {:.1f} % of its latents are dead. Means over the last interval of the "
        "log.",
        with_commas(last.value("tokens", uint64_t{0})), 100 * number(last, "explained_variance"),
        number(last, "l0"), 100 * number(last, "dead_fraction")));
    for (const std::string& warning : training_warnings(last, options))
      page.paragraph("Warning: " + warning + ".");
  }
  const std::string tokens = "tokens";
  page.chart({"Explained variance",
              tokens,
              "1 − E‖x − x̂‖² / variance of x",
              {curve(metrics, "explained variance", "explained_variance")}});
  page.chart({"L0", tokens, "latents that fire, per token", {curve(metrics, "L0", "l0")}});
  page.chart({"Loss",
              tokens,
              "mean per token, of normalised activations",
              {curve(metrics, "loss", "loss"), curve(metrics, "reconstruction", "reconstruction")},
              true});
  page.chart({"Dead latents",
              tokens,
              "share of latents that did not fire lately",
              {curve(metrics, "dead", "dead_fraction")}});
  page.chart({"Gradient",
              tokens,
              "norm before clipping",
              {curve(metrics, "gradient norm", "gradient_norm")},
              true});
  page.chart(
      {"Schedule", tokens, "learning rate", {curve(metrics, "learning rate", "learning_rate")}});
  if (!metrics.empty() && number(metrics.back(), "sparsity_coefficient") > 0)
    page.chart({"Sparsity", tokens, "λ", {curve(metrics, "λ", "sparsity_coefficient")}});
  page.chart({"Speed", tokens, "tokens/s", {curve(metrics, "speed", "tokens_per_second")}});
  page.heading("Options");
  page.table({"option", "value"}, rows_of(options));
  page.heading("Activations");
  page.table({"what", "value"}, rows_of(provenance));
  return page.html();
}

}  // namespace vyx::sae
