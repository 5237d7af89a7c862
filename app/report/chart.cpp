#include "app/report/chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace ft {

namespace {

// Units of the drawing; the page scales it.
constexpr double kWidth = 720, kHeight = 280, kLeft = 62, kRight = 12, kTop = 10, kBottom = 44;
constexpr int kHoverColumns = 90;

// From data to the drawing.
struct Scale {
  double x0, x1, y0, y1;
  bool log_y;

  explicit Scale(const Chart& chart) : log_y(chart.log_y) {
    x0 = y0 = HUGE_VAL, x1 = y1 = -HUGE_VAL;
    for (const Curve& c : chart.curves)
      for (const auto& [x, y] : c.points) {
        x0 = std::min(x0, x), x1 = std::max(x1, x);
        y0 = std::min(y0, y), y1 = std::max(y1, y);
      }
    log_y = log_y && y0 > 0;
    if (log_y) y0 = std::log10(y0), y1 = std::log10(y1);
    else if (chart.from_zero) y0 = std::min(y0, 0.0);
    const double margin = y1 > y0 ? 0.04 * (y1 - y0) : std::max(0.05 * std::abs(y1), 1e-12);
    y1 += margin;
    if (!(chart.from_zero && y0 == 0)) y0 -= margin;
    if (x1 <= x0) x0 -= 0.5, x1 += 0.5;
  }
  double x(double value) const {
    return kLeft + (value - x0) / (x1 - x0) * (kWidth - kLeft - kRight);
  }
  double y(double value) const {
    const double v = log_y ? std::log10(value) : value;
    return kHeight - kBottom - (v - y0) / (y1 - y0) * (kHeight - kTop - kBottom);
  }
};

std::string axis(const Chart& chart, const Scale& s) {
  std::string svg;
  const auto across = [&](double value, const std::string& text) {
    const double y = s.y(value);
    svg += fmt::format(
        "<path class=grid d='M{0:.0f} {2:.1f}H{1:.0f}'/><text x={3:.0f} y={4:.1f} "
        "text-anchor=end>{5}</text>\n",
        kLeft, kWidth - kRight, y, kLeft - 6, y + 4, text);
  };
  if (s.log_y && s.y1 - s.y0 > 1.2) {
    const double step = std::max(1.0, std::ceil((s.y1 - s.y0) / 6));
    for (double e = std::ceil(s.y0) + 0.0; e <= s.y1; e += step)
      across(std::pow(10, e), fmt::format("1e{:.0f}", e + 0.0));
  } else {
    const double low = s.log_y ? std::pow(10, s.y0) : s.y0,
                 high = s.log_y ? std::pow(10, s.y1) : s.y1;
    const auto at = ticks(low, high, 5);
    for (double v : at) across(v, tick_text(v, at.size() > 1 ? at[1] - at[0] : 0));
  }
  const auto at = ticks(s.x0, s.x1, 7);
  for (double v : at)
    svg += fmt::format(
        "<path class=axis d='M{0:.1f} {1:.0f}v4'/><text x={0:.1f} y={2:.0f} "
        "text-anchor=middle>{3}</text>\n",
        s.x(v), kHeight - kBottom, kHeight - kBottom + 17,
        tick_text(v, at.size() > 1 ? at[1] - at[0] : 0));
  svg += fmt::format("<path class=axis d='M{0:.0f} {1:.0f}V{2:.0f}H{3:.0f}' fill=none />\n", kLeft,
                     kTop, kHeight - kBottom, kWidth - kRight);
  return svg + fmt::format("<text x={:.0f} y={:.0f} text-anchor=middle class=unit>{}</text>\n",
                           (kLeft + kWidth - kRight) / 2, kHeight - 8, html_text(chart.x_title));
}

const char* style_class(const Curve& c) {
  if (c.style == Curve::Style::Faint) return " faint";
  return c.style == Curve::Style::Dashed || c.colour >= 10 ? " dashed" : "";
}

std::string line(const Curve& c, const Scale& s) {
  const int colour = c.colour % 10;
  if (c.style == Curve::Style::Dots || c.points.size() == 1) {
    std::string svg;
    for (const auto& [x, y] : c.points)
      svg += fmt::format("<circle class='f{}' cx={:.1f} cy={:.1f} r=3 />", colour, s.x(x), s.y(y));
    if (c.points.size() == 1) return svg + "\n";
    return svg + line({.colour = c.colour, .points = c.points}, s);
  }
  std::string path;
  for (const auto& [x, y] : c.points)
    path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : "L", s.x(x), s.y(y));
  return fmt::format("<path class='c{}{}' d='{}'/>\n", colour, style_class(c), path);
}

std::string legend(const Chart& chart) {
  std::string html;
  for (const Curve& c : chart.curves) {
    if (c.name.empty() || c.points.empty()) continue;
    html += fmt::format(
        "<span class=key><svg width=22 height=10><path class='c{}{}' "
        "d='M0 5H22'/></svg>{}</span>\n",
        c.colour % 10, style_class(c), html_text(c.name));
  }
  return html.empty() ? "" : "<div class=legend>" + html + "</div>";
}

// Invisible columns, each with a title: the values of all named curves there.
std::string hover(const Chart& chart, const Scale& s) {
  std::string svg;
  const double width = (kWidth - kLeft - kRight) / kHoverColumns;
  for (int i = 0; i < kHoverColumns; ++i) {
    const double middle = s.x0 + (i + 0.5) / kHoverColumns * (s.x1 - s.x0);
    const double half = (s.x1 - s.x0) / kHoverColumns / 2;
    std::string text, where;
    for (const Curve& c : chart.curves) {
      const auto at = std::min_element(c.points.begin(), c.points.end(), [&](auto& a, auto& b) {
        return std::abs(a.first - middle) < std::abs(b.first - middle);
      });
      if (c.name.empty() || at == c.points.end() || std::abs(at->first - middle) > 4 * half)
        continue;
      if (where.empty()) where = fmt::format("{} {:.0f}", chart.x_title, at->first);
      text += fmt::format("\n{}: {:.5g}", c.name, at->second);
    }
    if (text.empty()) continue;
    svg += fmt::format(
        "<rect class=hover x={:.1f} y={:.0f} width={:.2f} height={:.0f}><title>{}</title></rect>\n",
        kLeft + i * width, kTop, width, kHeight - kTop - kBottom, html_text(where + text));
  }
  return svg;
}

}  // namespace

std::string html_text(const std::string& text) {
  std::string html;
  for (char c : text) {
    if (c == '&') html += "&amp;";
    else if (c == '<') html += "&lt;";
    else if (c == '>') html += "&gt;";
    else if (c == '"') html += "&quot;";
    else if (c == '\'') html += "&#39;";
    else if (static_cast<unsigned char>(c) >= 32 || c == '\n' || c == '\t') html += c;
  }
  return html;
}

std::vector<double> ticks(double low, double high, int count) {
  if (!(high > low) || !std::isfinite(high - low)) return {low};
  const double rough = (high - low) / count, power = std::pow(10, std::floor(std::log10(rough)));
  double step = 10 * power;
  for (double factor : {1.0, 2.0, 5.0})
    if (factor * power >= rough) {
      step = factor * power;
      break;
    }
  std::vector<double> at;
  for (double n = std::ceil(low / step); n * step <= high && at.size() < 50; ++n)
    at.push_back(n * step);
  return at;
}

std::string tick_text(double value, double step) {
  const double size = std::max(std::abs(value), step);
  if (std::abs(value) < 1e-9 * step || value == 0) return "0";
  for (const auto& [unit, letter] : {std::pair{1e12, "T"}, {1e9, "B"}, {1e6, "M"}, {1e3, "k"}})
    if (size >= unit) return fmt::format("{:.4g}{}", value / unit, letter);
  return size < 1e-3 ? fmt::format("{:.1e}", value) : fmt::format("{:.4g}", value);
}

std::string chart_html(const Chart& chart) {
  Chart shown = chart;
  std::erase_if(shown.curves, [](const Curve& c) { return c.points.empty(); });
  if (shown.curves.empty()) return "";
  const Scale s(shown);
  std::string html = fmt::format(
      "<figure><figcaption>{} <span class=unit>{}{}</span></figcaption>\n"
      "<svg viewBox='0 0 {:.0f} {:.0f}' role=img aria-label=\"{}\">\n",
      html_text(shown.title), html_text(shown.y_title),
      s.log_y ? (shown.y_title.empty() ? "logarithmic" : ", logarithmic") : "", kWidth, kHeight,
      html_text(shown.title));
  html += axis(shown, s);
  for (const Mark& mark : shown.marks)
    if (mark.x >= s.x0 && mark.x <= s.x1)
      html += fmt::format("<path class='mark c{}{}' d='M{:.1f} {:.0f}V{:.0f}'/>\n",
                          mark.colour % 10, mark.small ? " small" : "", s.x(mark.x),
                          mark.small ? kHeight - kBottom - 9 : kTop, kHeight - kBottom);
  for (const Curve& c : shown.curves) html += line(c, s);
  html += hover(shown, s);
  for (const Mark& mark : shown.marks)
    if (mark.x >= s.x0 && mark.x <= s.x1)
      html += fmt::format(
          "<rect class=hover x={:.1f} y={:.0f} width=6 height={:.0f}><title>{}</title></rect>\n",
          s.x(mark.x) - 3, mark.small ? kHeight - kBottom - 12 : kTop,
          mark.small ? 12.0 : kHeight - kTop - kBottom,
          html_text(fmt::format("{} {:.0f}: {}", shown.x_title, mark.x, mark.text)));
  return html + "</svg>\n" + legend(shown) + "</figure>\n";
}

}  // namespace ft
