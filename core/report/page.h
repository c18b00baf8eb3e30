// Pages that stand alone: one HTML file without scripts that loads nothing, light or dark as the
// reader's system is. A Content-Security-Policy forbids all but the page's own style, so that what
// a file or a prompt holds stays text.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace vyx {

/// `text` for HTML, in elements and in quoted attributes: markup characters as entities; control
/// characters other than a line feed, bidirectional controls and malformed bytes as visible escapes
/// (\x1b, \u202e).
std::string escape_html(std::string_view text);

struct Curve {
  std::string name;
  std::vector<double> x, y;  // of one length, x rising; a point that is not finite leaves a gap
};

struct Chart {
  std::string title, x_label, y_label;  // labels with units
  std::vector<Curve> curves;
  bool logarithmic = false;  // the y axis; points that are not positive leave gaps
};

/// Values with intervals, one row each, along one axis that shows 0. A number that is not finite is
/// not drawn.
struct IntervalChart {
  struct Row {
    std::string name;
    double value = 0, low = 0, high = 0;
    double band_low = 0, band_high = 0;  // a range to compare with, behind it
  };
  std::string title, label;  // of the axis, with units
  std::vector<Row> rows;
};

/// A square table of numbers in [−1, 1], such as cosines, by colour and in figures.
struct HeatMap {
  std::string title;
  std::vector<std::string> names;
  std::vector<std::vector<double>> values;  // [names][names]
};

/// Built from the top down. Everything is escaped on its way in.
class Page {
 public:
  explicit Page(std::string_view title);

  void heading(std::string_view text);
  void paragraph(std::string_view text);
  void table(const std::vector<std::string>& header,
             const std::vector<std::vector<std::string>>& rows);
  /// Draws at most 200 points of each curve, evenly chosen, the last among them; the numbers are in
  /// a table below the picture, folded away. Charts that follow each other stand side by side where
  /// there is room.
  void chart(const Chart& chart);
  /// Across the page, with their numbers as above.
  void chart(const IntervalChart& chart);
  void chart(const HeatMap& map);

  std::string html() const;

 private:
  void close_charts();

  std::string title_, body_;
  bool in_charts_ = false;
};

}  // namespace vyx
