#include "apps/latents/latent_report.h"

#include <ATen/core/Tensor.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string_view>
#include <vector>

#include "core/base/json_number.h"
#include "core/base/text.h"
#include "core/base/utf8.h"
#include "core/base/utf8_stream.h"

namespace vyx::apps {
namespace {

constexpr size_t kColumns = 120;
constexpr int64_t kBest = 10;  // of each ranking; how many are in both is shown

/// Cut to `columns` characters.
std::string clipped(std::string_view text, size_t columns) {
  std::string result;
  for (size_t count = 0; !text.empty(); ++count) {
    const size_t length = std::max<size_t>(1, utf8_length(text));
    if (count + 1 == columns && length < text.size()) return result + "…";
    result += text.substr(0, length);
    text.remove_prefix(length);
  }
  return result;
}

/// On one line: white space of any kind as a space, other controls left out.
std::string one_line(std::string_view text) {
  std::string result;
  for (const char c : text) {
    if (c == '\n' || c == '\t' || c == '\r') {
      result += ' ';
    } else if (static_cast<unsigned char>(c) >= 0x20 && c != 0x7F) {
      result += c;
    }
  }
  return result;
}

/// The last `columns` characters.
std::string tail(std::string_view text, size_t columns) {
  size_t count = 0, begin = text.size();
  while (begin > 0 && count < columns) {
    do --begin;
    while (begin > 0 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80);
    ++count;
  }
  return (begin > 0 ? "…" : "") + std::string(text.substr(begin));
}

double value_of(const LatentStudy& study, Score score, int64_t latent) {
  const auto found = study.scores.find(score);
  return found == study.scores.end() ? std::numeric_limits<double>::quiet_NaN()
                                     : found->second[latent].item<double>();
}

struct Column {
  std::string_view name;
  int width = 0;
  std::function<std::string(int64_t latent)> cell;
};

std::vector<Column> columns_of(const LatentStudy& study) {
  const auto place = [](const std::vector<int64_t>& places, int64_t latent) {
    const int64_t found = places[static_cast<size_t>(latent)];
    return found == 0 ? std::string("–") : std::to_string(found);
  };
  std::vector<Column> columns = {
      {"latent", 6, [](int64_t latent) { return std::to_string(latent); }}};
  if (study.reads)
    columns.push_back(
        {"reads", 6, [&study, place](int64_t latent) { return place(study.read_place, latent); }});
  const auto add = [&](Score score, std::string_view name, int width, bool sign, int digits) {
    if (!study.scores.contains(score)) return;
    columns.push_back({name, width, [&study, score, sign, digits](int64_t latent) {
                         const double value = value_of(study, score, latent);
                         if (std::isnan(value)) return std::string("–");
                         return sign ? fmt::format("{:+.{}f}", value, digits)
                                     : fmt::format("{:.{}f}", value, digits);
                       }});
  };
  add(Score::auroc, "AUROC", 6, false, 3);
  add(Score::difference, "diff.", 7, true, 2);
  columns.push_back(
      {"writes", 6, [&study, place](int64_t latent) { return place(study.write_place, latent); }});
  add(Score::predicted, "predicted", 9, true, 3);
  add(Score::shift, "shift", 7, true, 3);
  if (study.kl.defined())
    columns.push_back({"KL", 6, [&study](int64_t latent) {
                         const double value = study.kl[latent].item<double>();
                         return std::isnan(value) ? std::string("–") : fmt::format("{:.3f}", value);
                       }});
  add(Score::output, "output", 6, false, 3);
  add(Score::attribution, "attrib.", 8, true, 4);
  add(Score::cosine, "cosine", 6, true, 2);
  return columns;
}

std::string quoted(const std::vector<std::string>& tokens) {
  std::vector<std::string> parts;
  for (const std::string& token : tokens) parts.push_back(quote(token));
  return fmt::format("{}", fmt::join(parts, " "));
}

void append_table(const LatentStudy& study, std::string& out) {
  const std::vector<Column> columns = columns_of(study);
  size_t used = 1;
  for (const Column& column : columns) {
    out += fmt::format("{:>{}} ", column.name, column.width);
    used += static_cast<size_t>(column.width) + 1;
  }
  out += " promotes\n";
  for (const ShownLatent& shown : study.shown) {
    std::string line;
    for (const Column& column : columns)
      line += fmt::format("{:>{}} ", column.cell(shown.latent), column.width);
    out += line + " " + clipped(quoted(shown.promoted), kColumns - used) + "\n";
  }
}

void append_contexts(const LatentStudy& study, std::string& out) {
  for (const ShownLatent& shown : study.shown) {
    out += fmt::format("\n{}\n", clipped(fmt::format("latent {} promotes {}", shown.latent,
                                                     quoted(shown.promoted)),
                                         kColumns));
    out += clipped(fmt::format("  suppresses {}", quoted(shown.suppressed)), kColumns) + "\n";
    if (shown.contexts.empty() && study.with_contexts) out += "  fires nowhere in the text\n";
    for (const auto& [activation, before, token, after] : shown.contexts) {
      const std::string marked = fmt::format("«{}»{}", one_line(token), one_line(after));
      out +=
          clipped(fmt::format("  {:>7.2f}  {}{}", activation, tail(one_line(before), 56), marked),
                  kColumns) +
          "\n";
    }
  }
}

int64_t first_of(const std::vector<int64_t>& places) {
  return std::find(places.begin(), places.end(), 1) - places.begin();
}

/// The latent whose worse place is the best.
int64_t best_of_both(const LatentStudy& study) {
  int64_t best = -1, best_place = std::numeric_limits<int64_t>::max();
  for (int64_t i = 0; i < study.latents(); ++i) {
    const int64_t reads = study.read_place[static_cast<size_t>(i)],
                  writes = study.write_place[static_cast<size_t>(i)];
    if (reads == 0 || writes == 0 || std::max(reads, writes) >= best_place) continue;
    best = i;
    best_place = std::max(reads, writes);
  }
  return best;
}

int64_t common_best(const LatentStudy& study) {
  int64_t common = 0;
  for (size_t i = 0; i < study.read_place.size(); ++i)
    common += study.read_place[i] >= 1 && study.read_place[i] <= kBest &&
              study.write_place[i] >= 1 && study.write_place[i] <= kBest;
  return common;
}

std::string described(const LatentStudy& study, int64_t latent) {
  const auto at = static_cast<size_t>(latent);
  return fmt::format("{} ({} by reading, {} by writing)", latent, study.read_place[at],
                     study.write_place[at]);
}

void append_without_readers(const LatentStudy& study, std::string& out) {
  out += fmt::format("\nwrites: place by {}{}\n", name_of(study.writes),
                     study.writes == Score::output
                         ? fmt::format(", among the {} measured", study.measured.size())
                         : "");
  out += "nothing is known of what reads: that needs --contrast or --template\n";
}

void append_summary(const LatentStudy& study, std::string& out) {
  const int64_t reader = first_of(study.read_place), writer = first_of(study.write_place),
                both = best_of_both(study);
  if (!study.reads) return append_without_readers(study, out);
  out += fmt::format(
      "\nreads: place by {}; writes: place by {}{}\n", name_of(*study.reads), name_of(study.writes),
      study.writes == Score::output ? fmt::format(", among the {} measured", study.measured.size())
                                    : "");
  out += fmt::format("best at reading {}; at writing {}; at both {}\n", described(study, reader),
                     described(study, writer), described(study, both));
  const int64_t common = common_best(study);
  out += fmt::format("of the {} best readers, {} {} among the {} best writers{}\n", kBest, common,
                     common == 1 ? "is" : "are", kBest,
                     common * 2 < kBest
                         ? ": most of those that read this concept are not those that write it"
                         : "");
  if (study.scores.contains(Score::shift)) {
    const auto largest = [&](int64_t a, int64_t b) {
      return value_of(study, Score::shift, a) < value_of(study, Score::shift, b);
    };
    const int64_t latent = *std::ranges::max_element(study.measured, largest);
    out += fmt::format(
        "of the {} measured, {} shifts most: {:+.3f} nats per token, at a KL of {:.3f} on neutral "
        "text\n",
        study.measured.size(), described(study, latent), value_of(study, Score::shift, latent),
        study.kl[latent].item<double>());
  }
  if (!study.scores.contains(Score::attribution))
    out += "no attribution and no shift: they need --heldout (and --neutral)\n";
}

Json list_of(const at::Tensor& values) {  // [latents] float64
  Json list = Json::array();
  for (int64_t i = 0; i < values.size(0); ++i)
    list.push_back(number_or_null(values.const_data_ptr<double>()[i]));
  return list;
}

Json valid(const std::vector<std::string>& tokens) {
  Json list = Json::array();
  for (const std::string& token : tokens) list.push_back(valid_utf8(token));
  return list;
}

Json place_json(int64_t place) {
  return place == 0 ? Json() : Json(place);
}

Json latent_json(const LatentStudy& study, const ShownLatent& shown) {
  const auto at = static_cast<size_t>(shown.latent);
  Json json = {{"latent", shown.latent},
               {"read_place", place_json(study.read_place[at])},
               {"write_place", place_json(study.write_place[at])},
               {"promotes", valid(shown.promoted)},
               {"suppresses", valid(shown.suppressed)}};
  for (const auto& entry : study.scores)
    json[std::string(name_of(entry.first))] =
        number_or_null(value_of(study, entry.first, shown.latent));
  if (study.kl.defined()) json["kl"] = number_or_null(study.kl[shown.latent].item<double>());
  json["contexts"] = Json::array();
  for (const auto& [activation, before, token, after] : shown.contexts)
    json["contexts"].push_back(
        {{"activation", activation}, {"before", before}, {"token", token}, {"after", after}});
  return json;
}

}  // namespace

std::string to_text(const LatentStudy& study) {
  std::string out;
  append_table(study, out);
  append_contexts(study, out);
  append_summary(study, out);
  return out;
}

Json to_json(const LatentStudy& study) {
  Json latents = Json::array(), scores = Json::object();
  for (const ShownLatent& shown : study.shown) latents.push_back(latent_json(study, shown));
  for (const auto& [score, values] : study.scores)
    scores[std::string(name_of(score))] = list_of(values);
  if (study.kl.defined()) scores["kl"] = list_of(study.kl);
  return {{"site", study.site},
          {"prompts", study.prompts},
          {"left_out", {{"special", study.left.special}, {"sinks", study.left.sinks}}},
          {"median_norm", study.median_norm},
          {"reads_by", study.reads ? Json(name_of(*study.reads)) : Json()},
          {"writes_by", name_of(study.writes)},
          {"best_reader", study.reads ? Json(first_of(study.read_place)) : Json()},
          {"best_writer", first_of(study.write_place)},
          {"best_of_both", best_of_both(study)},
          {"common_best", common_best(study)},
          {"measured", study.measured},
          {"latents", latents},
          {"scores", scores}};
}

}  // namespace vyx::apps
