// Line plots as SVG.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace cx::tools {

struct Series {
  std::string name;
  std::vector<std::pair<double, double>> points;                    ///< in the order of the line
  enum class Line { none, straight, steps } line = Line::straight;  ///< steps: first across, then up or down
  bool dashed = false;                                              ///< without marks
  bool faint = false;                                               ///< what others stand out from
  std::vector<std::string> labels = {};  ///< of the points, told when pointed at; empty: none
};

struct Plot {
  std::string title;
  std::vector<std::string> notes;  ///< lines below the title
  std::string x_label, y_label;
  std::vector<Series> series;
};

/// A page of 900 x 560 with axes from 0, ticks at round numbers (in k, M or G where they are large) and a legend.
/// Throws UsageError for a plot without points or with one that is negative or not finite.
std::string to_svg(const Plot &plot);

}  // namespace cx::tools
