#include "app/report.h"

#include "app/chart.h"
#include "app/commands.h"
#include "app/metrics.h"
#include "app/report_style.h"
#include "core/file.h"
#include "core/log.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

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

std::vector<Mark> marks_of(const RunData& run) {
  std::vector<Mark> marks;
  for (const RunMark& m : run.marks) marks.push_back({static_cast<double>(m.step), m.text});
  return marks;
}

std::string validation_name(const std::string& set) {
  return set == "validation" ? set : "validation: " + set;
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
  explicit Page(const std::vector<RunData>& runs) : runs_(runs), single_(runs.size() == 1) {}

  std::string html() {
    std::string title;
    for (const RunData& run : runs_) title += (title.empty() ? "" : ", ") + run.name;
    text_ = fmt::format(
        "<!DOCTYPE html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n"
        "<meta name=viewport content='width=device-width, initial-scale=1'>\n"
        "<link rel=icon href='data:,'>\n<title>{0}</title>\n<style>{1}</style>\n</head>\n<body>\n",
        html_text(title), kReportStyle);
    for (const RunData& run : runs_) header(run);
    section("Loss", {loss_chart(), validation_chart()});
    if (single_) section("Schedule", {planned_chart(), step_chart("batch", "Batch", "sequences")});
    else section("Schedule", {step_chart("lr", "Learning rate", "")});
    section("Stability", {step_chart("grad_norm", "Gradient norm", "before clipping"),
                          step_chart("dt_max", "Largest dt", "of Mamba-2, after softplus")});
    if (single_) class_sections(), source_section();
    section("Speed and memory", {step_chart("tokens_per_second", "Throughput", "tokens/s"),
                                 step_chart("mfu", "MFU", "% of the measured matrix product", 100),
                                 step_chart("seconds", "Step time", "s"), memory_chart()});
    for (const RunData& run : runs_) configuration(run);
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
    if (chart.x_title.empty()) chart.x_title = "step";
    if (single_ && chart.x_title == "step") chart.marks = marks_of(runs_[0]);
    return chart_html(chart);
  }

  void header(const RunData& run) {
    const double total = static_cast<double>(std::max<int64_t>(run.total_steps, run.last_step));
    const double share = total > 0 ? 100 * static_cast<double>(run.last_step) / total : 0;
    text_ += fmt::format("<h1>{}</h1>\n<div class=soft>{}</div>\n", html_text(run.name),
                         html_text(run.state));
    for (const std::string& note : run.notes)
      text_ += fmt::format("<div class=note>{}</div>\n", html_text(note));
    text_ += "<div class=numbers>\n";
    const auto show = [&](const std::string& label, const std::string& value) {
      text_ += fmt::format("<div><small>{}</small>{}</div>\n", html_text(label), html_text(value));
    };
    show("steps",
         fmt::format("{}{}", run.last_step,
                     run.total_steps > 0 ? fmt::format(" of {} ({:.1f}%)", run.total_steps, share)
                                         : std::string()));
    show("tokens", count_text(run.tokens));
    if (!series_of(run, "loss").empty())
      show("last training loss", fmt::format("{:.4f}", series_of(run, "loss").last()));
    for (const auto& [set, loss] : run.validation)
      if (!loss.empty())
        show(validation_name(set),
             fmt::format("{:.4f} (lowest {:.4f})", loss.last(), loss.smallest()));
    if (run.counted_seconds > 0) {
      show("tokens/s", rate_text(run.counted_tokens / run.counted_seconds));
      if (const double mfu = run.mfu_seconds / run.counted_seconds; std::isfinite(mfu))
        show("MFU", fmt::format("{:.1f}%", 100 * mfu));
    }
    show("time in steps", duration(run.seconds));
    if (run.skipped > 0) show("steps left out", fmt::format("{}", run.skipped));
    text_ += "</div>\n<table>\n";
    for (const auto& [label, value] : facts(run))
      if (!value.empty())
        text_ +=
            fmt::format("<tr><th>{}</th><td>{}</td></tr>\n", html_text(label), html_text(value));
    text_ += "</table>\n";
  }

  static std::vector<std::pair<std::string, std::string>> facts(const RunData& run) {
    const auto fact = [&](const char* key) {
      const auto at = run.facts.find(key);
      return at == run.facts.end() || at->second == "null" ? std::string() : at->second;
    };
    const auto amount = [&](const char* key) {
      return fact(key).empty() ? "" : count_text(std::atof(fact(key).c_str()));
    };
    std::vector<std::pair<std::string, std::string>> rows;
    std::string model = fact("parameters").empty() ? "" : amount("parameters") + " parameters";
    if (!fact("pattern").empty())
      model += fmt::format(", {} layers {}", fact("pattern").size(), fact("pattern"));
    if (!fact("model_flops_per_token").empty())
      model += ", " + amount("model_flops_per_token") + " FLOPs per token";
    rows.emplace_back("model", model);
    if (run.config) {
      const Config& c = *run.config;
      rows.emplace_back(
          "layout", fmt::format("{} ranks; tensor {}, pipeline {}, context {}; {}", amount("ranks"),
                                c.parallel.tensor, c.parallel.pipeline, c.parallel.context,
                                c.train.precision));
      rows.emplace_back("batch", fmt::format("{} sequences of {} tokens", c.train.global_batch,
                                             c.data.sequence_length));
      std::string data;
      for (size_t i = 0; i < c.data.train.size() && i < 20; ++i)
        data +=
            fmt::format("{}{} ({:g})", i ? ", " : "", c.data.train[i].name, c.data.train[i].weight);
      if (c.data.train.size() > 20) data += fmt::format(" and {} more", c.data.train.size() - 20);
      rows.emplace_back("data (weight)", data);
    }
    rows.emplace_back("machine", fact("machine"));
    if (!fact("sgemm_flops").empty())
      rows.emplace_back(
          "MFU", fmt::format("model FLOPs / measured matrix product of the run ({:.1f} GFLOP/s at "
                             "the last start); causal attention counted once, "
                             "recomputation not counted; first steps left out",
                             std::atof(fact("sgemm_flops").c_str()) * 1e-9));
    rows.emplace_back("last start", fact("time"));
    rows.emplace_back("folder", run.path);
    return rows;
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
      chart.curves.push_back({.name = single_ ? "smoothed" : runs_[i].name,
                              .colour = colour,
                              .points = smooth(points_of(loss, 1000))});
      if (!single_) continue;
      int next = 1;
      for (const auto& [set, values] : runs_[i].validation)
        chart.curves.push_back({.name = validation_name(set),
                                .colour = next++,
                                .points = points_of(values, 500),
                                .style = Curve::Style::Dots});
    }
    return draw(chart);
  }

  std::string validation_chart() const {
    Chart chart{.title = "Validation loss", .y_title = "nats per token"};
    int next = single_ ? 1 : 0;
    for (const RunData& run : runs_)
      for (const auto& [set, values] : run.validation)
        chart.curves.push_back({.name = single_ ? set : run.name + ": " + set,
                                .colour = next++,
                                .points = points_of(values, 500),
                                .style = Curve::Style::Dots});
    return draw(chart);
  }

  std::string step_chart(const char* key, const char* title, const char* unit,
                         double scale = 1) const {
    Chart chart{.title = title, .y_title = unit};
    for (size_t i = 0; i < runs_.size(); ++i)
      chart.curves.push_back({.name = single_ ? title : runs_[i].name,
                              .colour = static_cast<int>(i),
                              .points = points_of(series_of(runs_[i], key), 1000, scale)});
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
      const std::string prefix = single_ ? "" : runs_[i].name + ": ";
      const int colour = static_cast<int>(i);
      chart.curves.push_back(
          {.name = prefix + "largest resident",
           .colour = colour,
           .points = points_of(series_of(runs_[i], "memory_peak_bytes"), 500, kGiB)});
      chart.curves.push_back(
          {.name = prefix + "planned",
           .colour = colour,
           .points = points_of(series_of(runs_[i], "memory_planned_bytes"), 500, kGiB),
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
    if (!single_) text_ += fmt::format("<h2>{}</h2>\n", html_text(run.name));
    if (!run.marks.empty()) {
      text_ += "<details><summary>Events</summary><table>\n";
      for (const RunMark& m : run.marks)
        text_ += fmt::format("<tr><th>step {}</th><td>{}</td></tr>\n", m.step, html_text(m.text));
      text_ += "</table></details>\n";
    }
    if (!run.config_text.empty())
      text_ +=
          fmt::format("<details><summary>Resolved configuration</summary><pre>{}</pre></details>\n",
                      html_text(run.config_text));
  }

  static constexpr size_t kMostSources = 20;
  const std::vector<RunData>& runs_;
  bool single_;
  std::string text_;
};

}  // namespace

std::string report_html(const std::vector<RunData>& runs) { return Page(runs).html(); }

int report(const ReportOptions& options) {
  std::vector<RunData> runs;
  for (const std::string& path : options.runs) runs.push_back(read_run(path));
  const std::string out = options.out.empty() ? options.runs[0] + "/report.html" : options.out;
  write_text(out, report_html(runs));
  for (const RunData& run : runs)
    for (const std::string& note : run.notes) log_warn("{}: {}", run.path, note);
  log_info("{}: {} run{}, {} steps; open it in a browser", out, runs.size(),
           runs.size() == 1 ? "" : "s", runs[0].rows);
  return 0;
}

}  // namespace ft
