#include "core/report/page.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>

#include "core/base/error.h"
#include "core/base/text.h"
#include "core/base/utf8.h"
#include "core/io/digest.h"

namespace vyx {
namespace {

constexpr size_t kMaxPoints = 200;  // of a curve: more could not be told apart

// Colours are Okabe and Ito's, which colour-blind readers can tell apart; text keeps a contrast
// above 4.5:1 in both themes.
constexpr std::string_view kStyle = R"(
:root{color-scheme:light dark;--page:#fff;--ink:#1b1f24;--dim:#57606a;--line:#d0d7de;
--c0:#0072b2;--c1:#b8500a;--c2:#00795a;--c3:#a5447f;
--c4:#5b3fa8;--c5:#7a6000;--c6:#50575e;--c7:#b3261e}
@media(prefers-color-scheme:dark){
:root{--page:#14171b;--ink:#e6e9ed;--dim:#9aa4af;--line:#333b44;
--c0:#56b4e9;--c1:#e69f00;--c2:#2fc79c;--c3:#e39ac4;
--c4:#b39ddb;--c5:#d4c04a;--c6:#aeb6be;--c7:#ff8a80}}
body{margin:2rem auto;max-width:72rem;padding:0 1rem;background:var(--page);color:var(--ink);
font:15px/1.5 system-ui,sans-serif}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}
p{max-width:46rem}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.2rem .8rem .2rem 0;text-align:left;border-bottom:1px solid var(--line);
overflow-wrap:break-word}
th{font-weight:600;color:var(--dim)}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(22rem,1fr));gap:1.5rem}
figure{margin:0;min-width:0}figcaption{font-weight:600}
svg{width:100%;height:auto;display:block}
svg text{fill:var(--dim);font-size:14px}
.grid{stroke:var(--line);stroke-width:1}
.curve{fill:none;stroke-width:2;stroke-linejoin:round}
.point{fill:transparent}.point:hover{fill:var(--ink)}
.s0{stroke:var(--c0)}.s1{stroke:var(--c1)}.s2{stroke:var(--c2)}.s3{stroke:var(--c3)}
.s4{stroke:var(--c4)}.s5{stroke:var(--c5)}.s6{stroke:var(--c6)}.s7{stroke:var(--c7)}
.s4,.s5,.s6,.s7{stroke-dasharray:6 3}
svg .l0{fill:var(--c0)}svg .l1{fill:var(--c1)}svg .l2{fill:var(--c2)}svg .l3{fill:var(--c3)}
.legend{font-size:.85rem;margin:.2rem 0}.legend span{margin-right:1rem;white-space:nowrap}
.legend .l0{color:var(--c0)}.legend .l1{color:var(--c1)}
.legend .l2{color:var(--c2)}.legend .l3{color:var(--c3)}
.legend .l4{color:var(--c4)}.legend .l5{color:var(--c5)}
.legend .l6{color:var(--c6)}.legend .l7{color:var(--c7)}
.wide{max-width:56rem;margin:1rem 0}
svg .name{fill:var(--ink)}
.zero{stroke:var(--ink);stroke-width:1}
.band{fill:var(--line)}.range{stroke:var(--c0);stroke-width:3}.dot{fill:var(--c0)}
.cell{stroke:var(--page)}.above{fill:var(--c0)}.below{fill:var(--c1)}
.scroll{overflow-x:auto}
details{font-size:.85rem;color:var(--dim)}summary{cursor:pointer}
details div{max-height:16rem;overflow:auto}
)";
constexpr size_t kColours = 8;         // dashed from the fifth on
constexpr size_t kNamesInDrawing = 4;  // more of them stand below it

// The source of a style or script in a policy: 'sha256-…' in base64.
std::string policy_hash(std::string_view text) {
  static constexpr char kAlphabet[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const std::string hex = sha256(text);
  std::string base64;
  for (size_t i = 0; i < hex.size(); i += 6) {  // three bytes, four letters
    const std::string group = hex.substr(i, 6);
    const size_t letters = group.size() * 4 / 6 + 1;
    const auto bits = static_cast<uint32_t>(std::stoul(group, nullptr, 16))
                      << (24 - 4 * group.size());
    for (size_t j = 0; j < 4; ++j)
      base64 += j < std::min<size_t>(letters, 4) ? kAlphabet[bits >> (18 - 6 * j) & 63] : '=';
  }
  return "'sha256-" + base64 + "'";
}

// The code point of one well-formed UTF-8 character.
uint32_t code_point(std::string_view character) {
  const auto lead = static_cast<unsigned char>(character[0]);
  uint32_t value = character.size() == 1 ? lead : lead & (0xffu >> (character.size() + 1));
  for (const char byte : character.substr(1))
    value = value << 6 | (static_cast<unsigned char>(byte) & 0x3f);
  return value;
}

// Characters that change how what follows is shown: C1 controls, line separators, marks,
// embeddings, overrides and isolates of direction.
bool is_invisible_control(uint32_t c) {
  return (c >= 0x7f && c < 0xa0) || (c >= 0x200b && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) ||
         (c >= 0x2060 && c <= 0x206f) || c == 0xfeff;
}

// 1234567 as "1.235M", 0.00012345 as "0.0001234".
std::string number_text(double value) {
  const double size = std::fabs(value);
  if (size >= 1e12 || (size > 0 && size < 1e-4)) return fmt::format("{:.3g}", value);
  if (size >= 1e9) return fmt::format("{:.4g}G", value / 1e9);
  if (size >= 1e6) return fmt::format("{:.4g}M", value / 1e6);
  if (size >= 1e4) return fmt::format("{:.4g}k", value / 1e3);
  return fmt::format("{:.4g}", value);
}

// Maps values to the drawing: an axis from `low` to `high`, with ticks at round numbers.
struct Axis {
  double low = 0, high = 1;
  bool logarithmic = false;
  std::vector<double> ticks;

  double share(double value) const {
    return logarithmic ? std::log10(value / low) / std::log10(high / low)
                       : (value - low) / (high - low);
  }
};

Axis linear_axis(double low, double high, int intervals) {
  if (!(low < high)) {  // one value, or none
    const double margin = std::fabs(low) * 0.1;
    low -= margin;
    high += margin > 0 ? margin : 1;
  }
  const double rough = (high - low) / intervals;
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  double step = 10 * power;
  for (const double factor : {1.0, 2.0, 5.0})
    if (factor * power >= rough) {
      step = factor * power;
      break;
    }
  Axis axis{std::floor(low / step + 1e-9) * step, std::ceil(high / step - 1e-9) * step};
  const auto count = std::llround((axis.high - axis.low) / step);
  const double first = std::round(axis.low / step);
  for (long long i = 0; i <= count; ++i)
    axis.ticks.push_back((first + static_cast<double>(i)) * step);
  return axis;
}

Axis logarithmic_axis(double low, double high) {
  const double first = std::floor(std::log10(low) + 1e-9);
  const double last = std::max(first + 1, std::ceil(std::log10(high) - 1e-9));
  Axis axis{std::pow(10.0, first), std::pow(10.0, last), true};
  for (double exponent = first; exponent <= last; ++exponent)
    for (const double factor : {1.0, 2.0, 5.0})
      if ((factor == 1 || last - first <= 2) && (factor == 1 || exponent < last))
        axis.ticks.push_back(factor * std::pow(10.0, exponent));
  return axis;
}

// The indices of at most kMaxPoints of `count` points, evenly chosen, the first and the last among
// them.
std::vector<size_t> chosen_points(size_t count) {
  std::vector<size_t> chosen;
  const size_t wanted = std::min(count, kMaxPoints);
  for (size_t i = 0; i < wanted; ++i)
    chosen.push_back(wanted == 1 ? 0 : i * (count - 1) / (wanted - 1));
  return chosen;
}

struct Range {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  void include(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
  bool empty() const { return low > high; }
};

class Drawing {
 public:
  explicit Drawing(const Chart& chart) : chart_(chart) {
    Range x, y;
    for (const Curve& curve : chart.curves)
      for (size_t i = 0; i < curve.x.size(); ++i)
        if (drawn(curve, i)) {
          x.include(curve.x[i]);
          y.include(curve.y[i]);
        }
    if (x.empty()) return;
    x_ = linear_axis(x.low, x.high, 6);
    if (x.low < x.high) {  // the curve fills the width; ticks beyond it go
      x_.low = x.low;
      x_.high = x.high;
      std::erase_if(x_.ticks, [&](double tick) { return tick < x.low || tick > x.high; });
    }
    y_ = chart.logarithmic ? logarithmic_axis(y.low, y.high) : linear_axis(y.low, y.high, 5);
    empty_ = false;
  }

  std::string svg() const {
    std::string out = fmt::format(
        R"(<svg viewBox="0 0 {} {}" role="img" aria-label="{}">)", kWidth, kHeight,
        escape_html(fmt::format("{}: {} over {}", chart_.title, chart_.y_label, chart_.x_label)));
    if (empty_) {
      out += fmt::format(R"(<text x="{}" y="{}" text-anchor="middle">no data</text></svg>)",
                         kWidth / 2, kHeight / 2);
      return out;
    }
    for (const double tick : y_.ticks) {
      out += fmt::format(R"(<line class="grid" x1="{}" y1="{:.1f}" x2="{}" y2="{:.1f}"/>)", kLeft,
                         at_y(tick), kWidth - kRight, at_y(tick));
      out += fmt::format(R"(<text x="{}" y="{:.1f}" text-anchor="end">{}</text>)", kLeft - 6,
                         at_y(tick) + 5, number_text(tick));
    }
    for (const double tick : x_.ticks)
      out += fmt::format(R"(<text x="{:.1f}" y="{}" text-anchor="middle">{}</text>)", at_x(tick),
                         kHeight - kBottom + 18, number_text(tick));
    out += fmt::format(R"(<text x="{}" y="{}" text-anchor="middle">{}</text>)",
                       (kLeft + kWidth - kRight) / 2, kHeight - 4, escape_html(chart_.x_label));
    out += fmt::format(R"(<text x="{}" y="15">{}</text>)", 4, escape_html(chart_.y_label));
    for (size_t i = 0; i < chart_.curves.size(); ++i) draw(chart_.curves[i], i % kColours, out);
    if (chart_.curves.size() > 1 && chart_.curves.size() <= kNamesInDrawing) legend(out);
    return out + "</svg>";
  }

 private:
  static constexpr int kWidth = 520, kHeight = 280, kLeft = 62, kRight = 14, kTop = 32,
                       kBottom = 42;

  bool drawn(const Curve& curve, size_t i) const {
    return std::isfinite(curve.x[i]) && std::isfinite(curve.y[i]) &&
           (!chart_.logarithmic || curve.y[i] > 0);
  }
  double at_x(double x) const { return kLeft + x_.share(x) * (kWidth - kLeft - kRight); }
  double at_y(double y) const {
    return kHeight - kBottom - y_.share(y) * (kHeight - kTop - kBottom);
  }

  void draw(const Curve& curve, size_t colour, std::string& out) const {
    std::string path, points;
    bool pen_down = false;
    for (const size_t i : chosen_points(curve.x.size())) {
      if (!drawn(curve, i)) {
        pen_down = false;
        continue;
      }
      path +=
          fmt::format("{}{:.1f} {:.1f}", pen_down ? 'L' : 'M', at_x(curve.x[i]), at_y(curve.y[i]));
      pen_down = true;
      // A point shows its numbers to a mouse, without a script.
      points += fmt::format(R"(<circle class="point" cx="{:.1f}" cy="{:.1f}" r="4">)"
                            R"(<title>{}: {} at {}</title></circle>)",
                            at_x(curve.x[i]), at_y(curve.y[i]), escape_html(curve.name),
                            number_text(curve.y[i]), number_text(curve.x[i]));
    }
    out += fmt::format(R"(<path class="curve s{}" d="{}"/>{})", colour, path, points);
  }

  void legend(std::string& out) const {
    std::string names;
    for (size_t i = 0; i < chart_.curves.size(); ++i)
      names += fmt::format(R"(<tspan class="l{}" dx="12">&#9632; {}</tspan>)", i % kColours,
                           escape_html(chart_.curves[i].name));
    out +=
        fmt::format(R"(<text x="{}" y="15" text-anchor="end">{}</text>)", kWidth - kRight, names);
  }

  const Chart& chart_;
  Axis x_, y_;
  bool empty_ = true;
};

std::string table_html(const std::vector<std::string>& header,
                       const std::vector<std::vector<std::string>>& rows) {
  std::string out = "<table><thead><tr>";
  for (const std::string& cell : header) out += "<th scope=\"col\">" + escape_html(cell) + "</th>";
  out += "</tr></thead><tbody>\n";
  for (const auto& row : rows) {
    out += "<tr>";
    for (const std::string& cell : row) out += "<td>" + escape_html(cell) + "</td>";
    out += "</tr>\n";
  }
  return out + "</tbody></table>";
}

std::string legend_below(const Chart& chart) {
  if (chart.curves.size() <= kNamesInDrawing) return {};
  std::string names;
  for (size_t i = 0; i < chart.curves.size(); ++i)
    names += fmt::format("<span class=\"l{}\">{} {}</span> ", i % kColours,
                         i % kColours < kNamesInDrawing ? "&#9632;" : "&#9633;",
                         escape_html(chart.curves[i].name));
  return "<p class=\"legend\">" + names + "</p>";
}

std::string interval_svg(const IntervalChart& chart) {
  constexpr int kWidth = 820, kLeft = 270, kRight = 20, kTop = 10, kRow = 28, kBottom = 26;
  Range range;
  range.include(0);
  for (const auto& row : chart.rows)
    for (const double value : {row.value, row.low, row.high, row.band_low, row.band_high})
      if (std::isfinite(value)) range.include(value);
  const Axis axis = linear_axis(range.low, range.high, 8);
  const int height = kTop + kRow * static_cast<int>(chart.rows.size()) + kBottom;
  const auto at = [&](double value) {
    return kLeft + axis.share(value) * (kWidth - kLeft - kRight);
  };
  std::string out = fmt::format(R"(<svg viewBox="0 0 {} {}" role="img" aria-label="{}">)", kWidth,
                                height, escape_html(chart.title));
  for (const double tick : axis.ticks)
    out += fmt::format(R"(<line class="{}" x1="{:.1f}" y1="{}" x2="{:.1f}" y2="{}"/>)"
                       R"(<text x="{:.1f}" y="{}" text-anchor="middle">{}</text>)",
                       tick == 0 ? "zero" : "grid", at(tick), kTop, at(tick), height - kBottom,
                       at(tick), height - 6, number_text(tick));
  for (size_t i = 0; i < chart.rows.size(); ++i) {
    const auto& row = chart.rows[i];
    const int y = kTop + kRow * static_cast<int>(i) + kRow / 2;
    out += fmt::format(R"(<text class="name" x="{}" y="{}" text-anchor="end">{}</text>)",
                       kLeft - 10, y + 5, escape_html(row.name));
    if (std::isfinite(row.band_low) && std::isfinite(row.band_high))
      out +=
          fmt::format(R"(<rect class="band" x="{:.1f}" y="{}" width="{:.1f}" height="{}">)"
                      R"(<title>{} to {}</title></rect>)",
                      at(row.band_low), y - 9, std::max(1.0, at(row.band_high) - at(row.band_low)),
                      18, number_text(row.band_low), number_text(row.band_high));
    if (std::isfinite(row.low) && std::isfinite(row.high))
      out += fmt::format(R"(<line class="range" x1="{:.1f}" y1="{}" x2="{:.1f}" y2="{}"/>)",
                         at(row.low), y, at(row.high), y);
    if (std::isfinite(row.value))
      out += fmt::format(R"(<circle class="dot" cx="{:.1f}" cy="{}" r="5">)"
                         R"(<title>{}: {} [{}, {}]</title></circle>)",
                         at(row.value), y, escape_html(row.name), number_text(row.value),
                         number_text(row.low), number_text(row.high));
  }
  return out + "</svg>";
}

std::string heat_svg(const HeatMap& map) {
  constexpr int kLeft = 180, kCell = 62, kHeight = 34, kTop = 84,
                kRight = 110;         // the names above lean to the right
  constexpr double kStrongest = 0.5;  // opacity at ±1: figures stay readable on it
  const int n = static_cast<int>(map.names.size());
  std::string out =
      fmt::format(R"(<svg viewBox="0 0 {} {}" role="img" aria-label="{}">)",
                  kLeft + kCell * n + kRight, kTop + kHeight * n + 4, escape_html(map.title));
  for (int i = 0; i < n; ++i) {
    const std::string name = escape_html(map.names[static_cast<size_t>(i)]);
    out += fmt::format(R"(<text class="name" x="{}" y="{}" text-anchor="end">{}</text>)", kLeft - 8,
                       kTop + kHeight * i + kHeight / 2 + 5, name);
    out += fmt::format(R"svg(<text transform="translate({} {}) rotate(-24)">{}</text>)svg",
                       kLeft + kCell * i + 8, kTop - 8, name);
    for (int j = 0; j < n; ++j) {
      const double value = map.values[static_cast<size_t>(i)][static_cast<size_t>(j)];
      const int x = kLeft + kCell * j, y = kTop + kHeight * i;
      if (std::isfinite(value))
        out += fmt::format(
            R"(<rect class="cell {}" x="{}" y="{}" width="{}" height="{}" fill-opacity="{:.3f}"/>)",
            value < 0 ? "below" : "above", x, y, kCell, kHeight,
            kStrongest * std::min(1.0, std::fabs(value)));
      out += fmt::format(R"(<text class="name" x="{}" y="{}" text-anchor="middle">{}</text>)",
                         x + kCell / 2, y + kHeight / 2 + 5,
                         std::isfinite(value) ? fmt::format("{:.2f}", value) : "–");
    }
  }
  return out + "</svg>";
}

std::string wide_figure(const std::string& title, const std::string& label, const std::string& svg,
                        const std::string& numbers) {
  return fmt::format(
      "<figure "
      "class=\"wide\"><figcaption>{}</figcaption>{}\n{}<details><summary>Numbers</summary><div>{}</"
      "div></details></figure>\n",
      escape_html(title), svg,
      label.empty() ? "" : "<p class=\"legend\">" + escape_html(label) + "</p>", numbers);
}

}  // namespace

std::string escape_html(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const std::string_view character = text.substr(0, std::max<size_t>(1, utf8_length(text)));
    if (utf8_length(text) == 0)
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(text[0]));
    else if (const uint32_t c = code_point(character); c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '&')
      out += "&amp;";
    else if (c == '"')
      out += "&quot;";
    else if (c == '\'')
      out += "&#39;";
    else if (c < 0x20 && c != '\n')
      out += fmt::format("\\x{:02x}", c);
    else if (is_invisible_control(c))
      out += fmt::format("\\u{:04x}", c);
    else
      out += character;
    text.remove_prefix(character.size());
  }
  return out;
}

Page::Page(std::string_view title) : title_(escape_html(title)) {}

void Page::close_charts() {
  if (in_charts_) body_ += "</div>\n";
  in_charts_ = false;
}

void Page::heading(std::string_view text) {
  close_charts();
  body_ += "<h2>" + escape_html(text) + "</h2>\n";
}

void Page::paragraph(std::string_view text) {
  close_charts();
  body_ += "<p>" + escape_html(text) + "</p>\n";
}

void Page::table(const std::vector<std::string>& header,
                 const std::vector<std::vector<std::string>>& rows) {
  close_charts();
  body_ += "<div class=\"scroll\">" + table_html(header, rows) + "</div>\n";
}

void Page::chart(const Chart& chart) {
  for (const Curve& curve : chart.curves)
    if (curve.x.size() != curve.y.size())
      fail("chart \"{}\": curve \"{}\": found {} x and {} y, expected as many", chart.title,
           curve.name, curve.x.size(), curve.y.size());
  if (!in_charts_) body_ += "<div class=\"charts\">\n";
  in_charts_ = true;
  std::vector<std::vector<std::string>> rows;
  for (const Curve& curve : chart.curves)
    for (const size_t i : chosen_points(curve.x.size()))
      rows.push_back({curve.name, fmt::format("{}", curve.x[i]), fmt::format("{}", curve.y[i])});
  body_ += fmt::format(
      "<figure><figcaption>{}</figcaption>{}{}\n<details><summary>Numbers</summary><div>{}</div></"
      "details></figure>\n",
      escape_html(chart.title), Drawing(chart).svg(), legend_below(chart),
      table_html({"curve", chart.x_label, chart.y_label}, rows));
}

void Page::chart(const IntervalChart& chart) {
  close_charts();
  std::vector<std::vector<std::string>> rows;
  for (const auto& row : chart.rows)
    rows.push_back({row.name, fmt::format("{}", row.value), fmt::format("{}", row.low),
                    fmt::format("{}", row.high), fmt::format("{}", row.band_low),
                    fmt::format("{}", row.band_high)});
  body_ += wide_figure(chart.title, chart.label, interval_svg(chart),
                       table_html({"what", "value", "low", "high", "band from", "band to"}, rows));
}

void Page::chart(const HeatMap& map) {
  close_charts();
  std::vector<std::vector<std::string>> rows;
  std::vector<std::string> header = {""};
  header.insert(header.end(), map.names.begin(), map.names.end());
  if (map.values.size() != map.names.size())
    fail("chart \"{}\": found {} rows of values and {} names, expected as many", map.title,
         map.values.size(), map.names.size());
  for (size_t i = 0; i < map.names.size(); ++i) {
    if (map.values[i].size() != map.names.size())
      fail("chart \"{}\": row {}: found {} values, expected {}", map.title, i, map.values[i].size(),
           map.names.size());
    std::vector<std::string>& row = rows.emplace_back(std::vector<std::string>{map.names[i]});
    for (const double value : map.values[i]) row.push_back(fmt::format("{}", value));
  }
  body_ += wide_figure(map.title, "", heat_svg(map), table_html(header, rows));
}

std::string Page::html() const {
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src {}; "
      "base-uri 'none'; form-action 'none'\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<title>{}</title>\n<style>{}</style>\n</head>\n<body>\n<main>\n<h1>{}</h1>\n{}{}</main>\n</"
      "body>\n</html>\n",
      policy_hash(kStyle), title_, kStyle, title_, body_, in_charts_ ? "</div>\n" : "");
}

}  // namespace vyx
