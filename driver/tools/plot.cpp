#include "driver/tools/plot.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "driver/include/cx/error.hpp"
#include "driver/tools/xml_text.hpp"

namespace cx::tools {
namespace {

constexpr double kWidth = 900, kHeight = 560;
constexpr double kLeft = 70, kRight = 680, kTop = 90, kBottom = 500;
constexpr double kLegend = 700;
constexpr double kLine = 18;
/// Colours that stay apart for the colour-blind (Okabe and Ito).
constexpr std::array<const char *, 7> kColours = {"#0072B2", "#D55E00", "#009E73", "#CC79A7",
                                                  "#E69F00", "#56B4E9", "#000000"};

/// 1, 2 or 5 times a power of ten, so that at most eight steps reach `largest`.
double tick_step(double largest) {
  const double rough = largest / 8;
  const double power = std::pow(10, std::floor(std::log10(rough)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (rough <= factor * power) return factor * power;
  }
  return 10 * power;
}

/// An axis from 0 to a whole number of ticks.
struct Axis {
  double begin, end;  ///< on the page
  double step, largest;

  Axis(double first, double last, double most)
      : begin(first), end(last), step(tick_step(most)), largest(step * std::ceil(most / step - 1e-9)) {}
  double at(double value) const { return begin + (end - begin) * value / largest; }
};

std::string text(double x, double y, const char *anchor, const std::string &what, const std::string &more = "") {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\"{}>{}</text>\n", x, y, anchor, more,
                     xml_text(what));
}

std::string line(double x1, double y1, double x2, double y2, const char *colour, const char *more = "") {
  return fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"{}\"{}/>\n", x1, y1, x2,
                     y2, colour, more);
}

const char *dashes(const Series &series) { return series.dashed ? " stroke-dasharray=\"6 4\"" : ""; }

/// Numbers of an axis that reaches `largest`, in one unit.
std::string tick_text(double value, double largest) {
  constexpr std::array<std::pair<double, const char *>, 3> kUnits = {{{1e9, "G"}, {1e6, "M"}, {1e3, "k"}}};
  for (const auto &[size, unit] : kUnits) {
    if (largest >= std::max(size, 1e4)) return fmt::format("{:g}{}", value / size, value == 0 ? "" : unit);
  }
  return fmt::format("{:g}", value);
}

std::string axes(const Axis &x, const Axis &y, const Plot &plot) {
  std::string out;
  for (int i = 0; i * x.step <= x.largest * (1 + 1e-9); ++i) {
    const double at = x.at(i * x.step);
    out += line(at, kTop, at, kBottom, "#dddddd");
    out += text(at, kBottom + kLine, "middle", tick_text(i * x.step, x.largest));
  }
  for (int i = 0; i * y.step <= y.largest * (1 + 1e-9); ++i) {
    const double at = y.at(i * y.step);
    out += line(kLeft, at, kRight, at, "#dddddd");
    out += text(kLeft - 8, at + 4, "end", tick_text(i * y.step, y.largest));
  }
  out += line(kLeft, kBottom, kRight, kBottom, "#000000") + line(kLeft, kTop, kLeft, kBottom, "#000000");
  out += text((kLeft + kRight) / 2, kBottom + 2.5 * kLine, "middle", plot.x_label);
  const double middle = (kTop + kBottom) / 2;
  out += text(20, middle, "middle", plot.y_label, fmt::format(" transform=\"rotate(-90 20 {:.1f})\"", middle));
  return out;
}

std::string drawn(const Series &series, const char *colour, const Axis &x, const Axis &y) {
  std::string out;
  if (series.line != Series::Line::none) {
    std::string points;
    double before = 0;
    for (const auto &[a, b] : series.points) {
      if (series.line == Series::Line::steps && !points.empty()) {
        points += fmt::format("{:.1f},{:.1f} ", x.at(a), before);
      }
      points += fmt::format("{:.1f},{:.1f} ", x.at(a), before = y.at(b));
    }
    out += fmt::format("<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"2\"{} points=\"{}\"/>\n", colour,
                       dashes(series), points);
  }
  if (series.dashed) return out;
  for (std::size_t i = 0; i < series.points.size(); ++i) {
    const auto &[a, b] = series.points[i];
    const std::string label =
        i < series.labels.size() ? "<title>" + xml_text(series.labels[i]) + "</title>" : std::string();
    out += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{}\" fill=\"{}\"{}>{}</circle>\n", x.at(a), y.at(b),
                       series.faint ? 2.5 : 3.5, colour, series.faint ? " fill-opacity=\"0.35\"" : "", label);
  }
  return out;
}

}  // namespace

std::string to_svg(const Plot &plot) {
  double right = 0, top = 0;
  bool empty = true;
  for (const Series &series : plot.series) {
    empty = empty && series.points.empty();
    for (const auto &[x, y] : series.points) {
      if (!(x >= 0) || !(y >= 0) || !std::isfinite(x) || !std::isfinite(y)) {
        throw UsageError(fmt::format("plot {}: a point of {} is negative or not finite", plot.title, series.name));
      }
      right = std::max(right, x);
      top = std::max(top, y);
    }
  }
  if (empty) throw UsageError("plot " + plot.title + ": nothing to draw");
  // An axis on which everything is at 0 goes to 1.
  if (right == 0) right = 1;
  if (top == 0) top = 1;
  const Axis x(kLeft, kRight, right), y(kBottom, kTop, top);
  std::string out = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" height=\"{1}\" "
      "font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"{0}\" height=\"{1}\" fill=\"#ffffff\"/>\n",
      kWidth, kHeight);
  out += text(kLeft, 24, "start", plot.title, " font-size=\"16\"");
  double at = 24;
  for (const std::string &note : plot.notes) out += text(kLeft, at += kLine, "start", note, " fill=\"#555555\"");
  out += axes(x, y, plot);
  for (std::size_t i = 0; i < plot.series.size(); ++i) {
    const Series &series = plot.series[i];
    const char *colour = kColours[i % kColours.size()];
    out += drawn(series, colour, x, y);
    const double level = kTop + kLine * static_cast<double>(i + 1);
    if (series.line != Series::Line::none) {
      out += line(kLegend, level - 4, kLegend + 24, level - 4, colour,
                  series.dashed ? " stroke-dasharray=\"6 4\"" : " stroke-width=\"2\"");
    } else {
      out += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3.5\" fill=\"{}\"{}/>\n", kLegend + 12, level - 4,
                         colour, series.faint ? " fill-opacity=\"0.35\"" : "");
    }
    out += text(kLegend + 30, level, "start", series.name);
  }
  return out + "</svg>\n";
}

}  // namespace cx::tools
