#include "app/report/page.h"

#include "app/report/chart.h"
#include "app/report/parts.h"
#include "app/report/style.h"
#include "app/run/metrics.h"
#include "core/file.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <set>

namespace ft {

namespace {

using Points = std::vector<std::pair<double, double>>;

// At most `most` points of a series; with `extremes` both ends of each bucket, so no spike is lost.
Points points_of(const Series& series, size_t most, double scale = 1, bool extremes = false) {
  const auto& all = series.buckets();
  const size_t group = std::max<size_t>(1, (all.size() * (extremes ? 2 : 1) + most - 1) / most);
  Points points;
  for (size_t i = 0; i < all.size(); i += group) {
    Series::Bucket b = all[i];
    for (size_t j = i + 1; j < std::min(all.size(), i + group); ++j) {
      b.x = all[j].x, b.sum += all[j].sum, b.count += all[j].count;
      b.low = std::min(b.low, all[j].low), b.high = std::max(b.high, all[j].high);
    }
    if (extremes && b.count > 1)
      points.emplace_back(b.x, b.low * scale), points.emplace_back(b.x, b.high * scale);
    else points.emplace_back(b.x, b.mean() * scale);
  }
  return points;
}

// Exponential average over about a fiftieth of the run, corrected for its start.
Points smooth(const Points& points) {
  const double keep = 1 - 1 / std::max(3.0, static_cast<double>(points.size()) / 50);
  Points out;
  double sum = 0, weight = 0;
  for (const auto& [x, y] : points) {
    sum = keep * sum + (1 - keep) * y, weight = keep * weight + (1 - keep);
    out.emplace_back(x, sum / weight);
  }
  return out;
}

const Series& series_of(const RunData& run, const char* key) {
  static const Series none;
  const auto at = run.steps.find(key);
  return at == run.steps.end() ? none : at->second;
}

// Whether a logarithmic axis shows more.
bool wide(const std::vector<Curve>& curves) {
  double low = HUGE_VAL, high = 0;
  for (const Curve& c : curves)
    for (const auto& [x, y] : c.points) low = std::min(low, y), high = std::max(high, y);
  return low > 0 && high / low > 30;
}

class Page {
 public:
  explicit Page(const std::vector<RunData>& runs)
      : runs_(runs),
        labels_(run_labels(runs)),
        single_(runs.size() == 1),
        by_tokens_(!single_ && batches_differ(runs)) {}

  std::string html() {
    std::string title;
    for (const std::string& label : labels_) title += (title.empty() ? "" : ", ") + label;
    text_ = fmt::format(
        "<!DOCTYPE html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n"
        "<meta name=viewport content='width=device-width, initial-scale=1'>\n"
        "<link rel=icon href='data:,'>\n<title>{0}</title>\n<style>{1}</style>\n</head>\n<body>\n",
        html_text(title), kReportStyle);
    if (single_) {
      text_ += header_html(runs_[0]);
      text_ += events_html(runs_[0]);
    } else {
      comparison();
    }
    section("Loss", losses());
    if (single_) section("Schedule", {planned_chart(), step_chart("batch", "Batch", "sequences")});
    else section("Schedule", {step_chart("lr", "Learning rate", "")});
    section("Stability", {step_chart("grad_norm", "Gradient norm", "before clipping"),
                          step_chart("dt_max", "Largest dt", "of Mamba-2, after softplus")});
    if (single_) class_sections(), source_section();
    section("Speed and memory", {step_chart("tokens_per_second", "Throughput", "tokens/s"),
                                 step_chart("mfu", "MFU", "% of the measured matrix product", 100),
                                 step_chart("seconds", "Step time", "s"), memory_chart()});
    if (single_) configuration(runs_[0]);
    else each_run();
    return text_ + "</body>\n</html>\n";
  }

 private:
  void section(const std::string& title, const std::vector<std::string>& charts) {
    std::string all;
    for (const std::string& chart : charts) all += chart;
    if (!all.empty())
      text_ += fmt::format("<h2>{}</h2>\n<div class=plots>\n{}</div>\n", html_text(title), all);
  }

  std::string draw(Chart chart) const {
    if (chart.x_title.empty()) chart.x_title = by_tokens_ ? "tokens" : "step";
    if (single_ && chart.x_title == "step") chart.marks = marks_of(runs_[0]);
    return chart_html(chart);
  }

  // Points over steps, moved to where the plots of this page have them.
  Points placed(const RunData& run, Points points) const {
    if (by_tokens_)
      for (auto& [x, y] : points) x = tokens_at(run, x);
    return points;
  }

  void comparison() {
    text_ += fmt::format(
        "<h1>{} runs compared</h1>\n<div class=soft>plots over {}</div>\n", runs_.size(),
        by_tokens_ ? "tokens: a step is not the same number of them in all runs" : "steps");
    text_ += comparison_html(runs_, labels_);
    for (size_t i = 0; i < runs_.size(); ++i)
      for (const std::string& note : runs_[i].notes)
        text_ +=
            fmt::format("<div class=note>{}: {}</div>\n", html_text(labels_[i]), html_text(note));
  }

  void each_run() {
    text_ += "<h2>Each run</h2>\n";
    for (size_t i = 0; i < runs_.size(); ++i) {
      text_ += fmt::format("<details><summary>{}</summary>\n", html_text(labels_[i]));
      text_ += header_html(runs_[i]);
      text_ += events_html(runs_[i]);
      configuration(runs_[i]);
      text_ += "</details>\n";
    }
  }

  std::string loss_chart() const {
    Chart chart{.title = "Training loss", .y_title = "nats per token"};
    for (size_t i = 0; i < runs_.size(); ++i) {
      const Series& loss = series_of(runs_[i], "loss");
      const int colour = static_cast<int>(i);
      if (single_)
        chart.curves.push_back({.name = "each step",
                                .colour = colour,
                                .points = points_of(loss, 2000, 1, true),
                                .style = Curve::Style::Faint});
      chart.curves.push_back({.name = single_ ? "smoothed" : labels_[i],
                              .colour = colour,
                              .points = placed(runs_[i], smooth(points_of(loss, 1000)))});
      if (!single_) continue;
      int next = 1;
      for (const auto& [set, values] : runs_[i].validation)
        chart.curves.push_back({.name = set == "validation" ? set : "validation: " + set,
                                .colour = next++,
                                .points = points_of(values, 500),
                                .style = Curve::Style::Dots});
    }
    return draw(chart);
  }

  // The training loss, then validation: of one run all sets share a plot, of several runs each set
  // has its own.
  std::vector<std::string> losses() const {
    std::vector<std::string> charts{loss_chart()};
    std::set<std::string> sets;
    for (const RunData& run : runs_)
      for (const auto& [set, values] : run.validation) sets.insert(set);
    if (single_) {
      Chart chart{.title = "Validation loss", .y_title = "nats per token"};
      for (const auto& [set, values] : runs_[0].validation) add_validation(chart, 0, set, set);
      for (size_t i = 0; i < chart.curves.size(); ++i)
        chart.curves[i].colour = static_cast<int>(i) + 1;
      charts.push_back(draw(chart));
      return charts;
    }
    for (const std::string& set : sets) {
      if (charts.size() > kMostSets) break;
      Chart chart{.title = set == "validation" ? "Validation loss" : "Validation loss: " + set,
                  .y_title = "nats per token"};
      for (size_t i = 0; i < runs_.size(); ++i) add_validation(chart, i, set, labels_[i]);
      charts.push_back(draw(chart));
    }
    return charts;
  }

  void add_validation(Chart& chart, size_t run, const std::string& set,
                      const std::string& name) const {
    const auto at = runs_[run].validation.find(set);
    if (at == runs_[run].validation.end()) return;
    chart.curves.push_back({.name = name,
                            .colour = static_cast<int>(run),
                            .points = placed(runs_[run], points_of(at->second, 500)),
                            .style = Curve::Style::Dots});
  }

  std::string step_chart(const char* key, const char* title, const char* unit,
                         double scale = 1) const {
    Chart chart{.title = title, .y_title = unit};
    for (size_t i = 0; i < runs_.size(); ++i)
      chart.curves.push_back(
          {.name = single_ ? title : labels_[i],
           .colour = static_cast<int>(i),
           .points = placed(runs_[i], points_of(series_of(runs_[i], key), 1000, scale))});
    chart.log_y = wide(chart.curves);
    chart.from_zero = std::string(key) != "batch" && !chart.log_y;
    return draw(chart);
  }

  std::string planned_chart() const {
    const RunData& run = runs_[0];
    Chart chart{.title = "Learning rate", .x_title = "tokens", .from_zero = true};
    if (run.config)
      chart.curves.push_back({.name = "planned",
                              .colour = 8,
                              .points = planned_lr(*run.config, 400),
                              .style = Curve::Style::Dashed});
    chart.curves.push_back(
        {.name = "so far", .colour = 0, .points = points_of(run.lr_by_tokens, 1000)});
    return draw(chart);
  }

  std::string memory_chart() const {
    constexpr double kGiB = 1.0 / (1024.0 * 1024 * 1024);
    Chart chart{.title = "Memory of a rank", .y_title = "GiB", .from_zero = true};
    for (size_t i = 0; i < runs_.size(); ++i) {
      const std::string prefix = single_ ? "" : labels_[i] + ": ";
      const int colour = static_cast<int>(i);
      chart.curves.push_back(
          {.name = prefix + "largest resident",
           .colour = colour,
           .points =
               placed(runs_[i], points_of(series_of(runs_[i], "memory_peak_bytes"), 500, kGiB))});
      chart.curves.push_back(
          {.name = prefix + "planned",
           .colour = colour,
           .points =
               placed(runs_[i], points_of(series_of(runs_[i], "memory_planned_bytes"), 500, kGiB)),
           .style = Curve::Style::Dashed});
    }
    return draw(chart);
  }

  // Many classes: those that belong together share a chart.
  void class_sections() {
    const std::pair<const char*, std::vector<const char*>> groups[] = {
        {"embedding, attention, MLP",
         {"embedding", "head", "q", "k", "v", "o", "gate", "up", "down"}},
        {"Mamba-2 projections",
         {"in_proj_z", "in_proj_x", "in_proj_B", "in_proj_C", "in_proj_dt", "out_proj"}},
        {"small parameters", {"conv", "dt_bias", "A_log", "D", "norm", "bias"}}};
    const RunData& run = runs_[0];
    std::vector<std::string> charts;
    for (const auto& [kind, norms] :
         {std::pair{"Gradient", &run.gradients}, std::pair{"Weight", &run.weights}})
      for (const auto& [title, classes] : groups) {
        Chart chart{.title = fmt::format("{} norms: {}", kind, title)};
        for (size_t i = 0; i < classes.size(); ++i)
          if (const auto at = norms->find(classes[i]); at != norms->end())
            chart.curves.push_back({.name = classes[i],
                                    .colour = static_cast<int>(i),
                                    .points = points_of(at->second, 400)});
        chart.log_y = wide(chart.curves);
        charts.push_back(draw(chart));
      }
    section("Norms by class of parameters", charts);
  }

  void source_section() {
    const RunData& run = runs_[0];
    std::vector<std::string> charts;
    for (const auto& [title, unit, by_source, smoothed] :
         {std::tuple{"Loss by source", "nats per token, smoothed", &run.source_loss, true},
          std::tuple{"Tokens by source", "since the start", &run.source_tokens, false},
          std::tuple{"Epochs by source", "times over the data", &run.source_epoch, false}}) {
      Chart chart{.title = title, .y_title = unit, .from_zero = !smoothed};
      for (const auto& [name, values] : *by_source) {
        if (chart.curves.size() == kMostSources) break;
        const Points points = points_of(values, 600);
        chart.curves.push_back({.name = name,
                                .colour = static_cast<int>(chart.curves.size()),
                                .points = smoothed ? smooth(points) : points});
      }
      if (by_source->size() > kMostSources)
        chart.y_title += fmt::format(", {} of {} sources", kMostSources, by_source->size());
      charts.push_back(draw(chart));
    }
    section("Sources", charts);
  }

  void configuration(const RunData& run) {
    if (!run.config_text.empty())
      text_ +=
          fmt::format("<details><summary>Resolved configuration</summary><pre>{}</pre></details>\n",
                      html_text(run.config_text));
  }

  static constexpr size_t kMostSources = 20, kMostSets = 8;
  const std::vector<RunData>& runs_;
  std::vector<std::string> labels_;
  bool single_, by_tokens_;
  std::string text_;
};

}  // namespace

double smoothed_last(const Series& series) {
  const Points points = smooth(points_of(series, 1000));
  return points.empty() ? kUnknown : points.back().second;
}

std::string report_html(const std::vector<RunData>& runs) { return Page(runs).html(); }

}  // namespace ft
