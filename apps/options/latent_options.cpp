#include "apps/options/latent_options.h"

#include <ATen/Functions.h>
#include <fmt/ranges.h>

#include <charconv>
#include <cmath>
#include <filesystem>
#include <limits>
#include <string_view>
#include <utility>

#include "core/base/error.h"
#include "sae/files/autoencoder_file.h"
#include "sae/latents/model_site.h"
#include "sae/metrics/latent_statistics.h"

namespace vyx::apps {
namespace {

using Kind = sae::LatentChange::Kind;

constexpr const char* kGrammar =
    "expected I=NUMBER, I=+NUMBER, I=-NUMBER, I=*NUMBER, I=set:NUMBER or I=clamp:LOW:HIGH; a "
    "NUMBER may be 10x";

template <class T>
std::optional<T> parse_all(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

int64_t parse_index(std::string_view text, const std::string& whole) {
  const auto index = parse_all<int64_t>(text);
  if (!index || *index < 0)
    throw UsageError(fmt::format("{}: '{}' is not the number of a latent", whole, text));
  return *index;
}

LatentNumber parse_number(std::string_view text, const std::string& whole) {
  LatentNumber result{.of_maximum = text.ends_with('x')};
  if (result.of_maximum) text.remove_suffix(1);
  if (text.starts_with('+')) text.remove_prefix(1);  // from_chars knows no plus
  const auto number = parse_all<double>(text);
  if (!number || !std::isfinite(*number))
    throw UsageError(fmt::format("{}: '{}' is not a finite number; {}", whole, text, kGrammar));
  result.number = *number;
  return result;
}

struct WhenArgument {
  int64_t latent = 0;
  LatentNumber above;
};

WhenArgument parse_when(const std::string& text) {
  const auto sign = text.find('>');
  if (sign == std::string::npos)
    throw UsageError(fmt::format("--when {}: expected J>NUMBER", text));
  const std::string whole = "--when " + text;
  return {parse_index(std::string_view(text).substr(0, sign), whole),
          parse_number(std::string_view(text).substr(sign + 1), whole)};
}

/// Turns numbers into activations; reads the file of largest activations when the first of them
/// asks for it.
class Activations {
 public:
  Activations(std::filesystem::path sae, int64_t latents)
      : folder_(std::move(sae)), latents_(latents) {
    if (!std::filesystem::is_directory(folder_)) folder_ = folder_.parent_path();
  }

  double operator()(const LatentNumber& number, int64_t latent) {
    if (!number.of_maximum) return number.number;
    if (!statistics_)
      statistics_ = sae::read_latent_statistics(folder_ / sae::kLatentStatisticsFile, latents_);
    if (latent >= latents_)
      fail("latent {}: the autoencoder has latents 0 to {}", latent, latents_ - 1);
    const double maximum = statistics_->maximum[latent].item<double>();
    if (maximum <= 0)
      fail(
          "latent {}: it fired on none of the {} tokens that it was measured on, so that it has no "
          "largest activation; give a number",
          latent, statistics_->tokens);
    return number.number * maximum;
  }

 private:
  std::filesystem::path folder_;
  int64_t latents_;
  std::optional<sae::LatentStatistics> statistics_;
};

}  // namespace

LatentArgument parse_latent(const std::string& text) {
  const std::string whole = "--latent " + text;
  const std::string_view all = text;
  const auto equals = all.find('=');
  LatentArgument result{.latent = parse_index(all.substr(0, equals), whole)};
  if (equals == std::string_view::npos) return result;
  std::string_view value = all.substr(equals + 1);
  const auto takes = [&](std::string_view prefix) {
    if (!value.starts_with(prefix)) return false;
    value.remove_prefix(prefix.size());
    return true;
  };
  if (takes("clamp:")) {
    const auto colon = value.find(':');
    if (colon == std::string_view::npos)
      throw UsageError(
          fmt::format("{}: expected clamp:LOW:HIGH, or clamp:LOW: without an upper bound", whole));
    result.kind = Kind::clamp;
    result.low = parse_number(value.substr(0, colon), whole);
    result.high.number = std::numeric_limits<double>::infinity();
    if (colon + 1 < value.size()) result.high = parse_number(value.substr(colon + 1), whole);
  } else if (takes("*")) {
    result.kind = Kind::scale;
    result.value = parse_number(value, whole);
    if (result.value.of_maximum) throw UsageError(fmt::format("{}: a factor has no x", whole));
  } else if (takes("set:")) {
    result.kind = Kind::set;
    result.value = parse_number(value, whole);
  } else {
    result.kind = value.starts_with('+') || value.starts_with('-') ? Kind::add : Kind::set;
    result.value = parse_number(value, whole);
  }
  return result;
}

void LatentOptions::add_to(Driver& driver, bool with_sae) {
  auto& option = driver.options();
  if (with_sae)
    option("sae", sae, "PATH",
           "the autoencoder whose latents are changed, in any format that vyx reads")
        .needs("latent", "without-error");
  option("latent", latents, "I=VALUE",
         "change latent I: 3.5 sets it; 10x sets it to 10 times its largest activation on training "
         "data; +2 and -1x add; *0.5 scales; clamp:0:4 and clamp:1x: keep it within bounds; set:-2 "
         "sets it to what has a sign; may be given more than once")
      .needs("sae");
  option("when", when, "J>VALUE", "change latents only at tokens where latent J is above VALUE")
      .needs("latent");
  option("without-error", without_error,
         "replace the activation by the changed reconstruction: what the autoencoder does not "
         "explain is lost")
      .needs("sae");
  option("site", site, "SITE", "where the autoencoder belongs, if its file does not say")
      .needs("sae");
}

void LatentOptions::check(bool needs_values) const {
  for (const std::string& text : latents)
    if (const LatentArgument latent = parse_latent(text); needs_values && !latent.kind)
      throw UsageError(fmt::format("--latent {}: {}", text, kGrammar));
  if (!when.empty()) (void)parse_when(when);
}

LatentIntervention LatentOptions::read(models::LanguageModel& model, bool allow_other_model) const {
  LatentIntervention result{.autoencoder = sae::load_autoencoder(sae),
                            .options = {.keep_error = !without_error}};
  auto& config = result.autoencoder.config;
  if (!site.empty()) config.sites = {site};
  result.site = sae::site_in(model, result.autoencoder, sae, allow_other_model);
  result.autoencoder = sae::to_device(result.autoencoder, model.device());

  Activations activation(sae, config.latents);
  std::optional<sae::LatentCondition> condition;
  if (!when.empty()) {
    const auto [latent, above] = parse_when(when);
    condition = {.latent = latent, .above = activation(above, latent)};
  }
  for (const std::string& text : latents) {
    const LatentArgument argument = parse_latent(text);
    result.changes.push_back({.latent = argument.latent,
                              .kind = argument.kind.value_or(Kind::set),
                              .value = activation(argument.value, argument.latent),
                              .low = activation(argument.low, argument.latent),
                              .high = activation(argument.high, argument.latent),
                              .condition = condition});
  }
  return result;
}

}  // namespace vyx::apps
