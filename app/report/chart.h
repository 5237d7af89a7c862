// Line charts as SVG text, readable without JavaScript: axes with units, a legend, titles on hover.
// Colours and fonts are classes of the page's style sheet: c0 ... c9, grid, axis, mark.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace ft {

struct Curve {
  enum class Style { Line, Faint, Dashed, Dots };
  std::string name;                               // empty: not in the legend
  int colour = 0;                                 // of 10; beyond, dashed
  std::vector<std::pair<double, double>> points;  // in order of x, finite
  Style style = Style::Line;
};

// Something that happened: a line through the chart, or (`small`) a tooth on its axis.
struct Mark {
  double x = 0;
  std::string text;
  int colour = 3;
  bool small = false;
};

struct Chart {
  std::string title, x_title, y_title;
  std::vector<Curve> curves;
  std::vector<Mark> marks;
  bool log_y = false;      // where all values are above 0
  bool from_zero = false;  // the y axis begins at 0
};

std::string html_text(const std::string& text);    // with & < > " ' escaped, controls left out
std::string tick_text(double value, double step);  // of an axis: "2.5k", "3e-4"
// Where ticks of [low, high] lie: about `count` round numbers, inside.
std::vector<double> ticks(double low, double high, int count);
// A <figure>; empty where no curve has a point.
std::string chart_html(const Chart& chart);

}  // namespace ft
