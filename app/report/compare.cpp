// Several runs in one table: how each ended, what it reached, and which settings differ.
#include "app/report/parts.h"
#include "app/run/metrics.h"
#include "core/check.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>

namespace ft {

namespace fs = std::filesystem;

namespace {

constexpr size_t kMostSettings = 40, kMostSets = 8;  // columns

// path -> value of everything that a configuration says; lists of plain values are one value.
using Settings = std::vector<std::pair<std::string, std::string>>;

void flatten(const OptionNode& node, const std::string& path, Settings& to) {
  if (node.is_map()) {
    for (const std::string& key : node.keys())
      flatten(node.at(key), path.empty() ? key : path + "." + key, to);
  } else if (node.is_list()) {
    const auto items = node.items();
    const bool plain =
        std::all_of(items.begin(), items.end(), [](const OptionNode& n) { return n.is_scalar(); });
    std::string all;
    for (size_t i = 0; i < items.size(); ++i)
      if (plain) all += (i ? ", " : "") + items[i].scalar();
      else flatten(items[i], fmt::format("{}[{}]", path, i), to);
    if (plain) to.emplace_back(path, "[" + all + "]");
  } else {
    to.emplace_back(path, node.is_null() ? "null" : node.is_scalar() ? node.scalar() : "");
  }
}

Settings settings_of(const RunData& run) {
  Settings settings;
  try {
    flatten(OptionNode::parse(run.config_text, run.path), "", settings);
  } catch (const Error&) {  // the page notes it already
  }
  return settings;
}

struct Column {
  std::string title, hint;
  std::vector<std::string> cells;
  bool number = true;
};

std::string shown(double value, const char* format) {
  return std::isfinite(value) ? fmt::format(fmt::runtime(format), value) : "";
}

// The figures of a run, by column; a column that is empty for all is left out.
std::vector<Column> figures(const std::vector<RunData>& runs) {
  std::set<std::string> sets;
  for (const RunData& run : runs)
    for (const auto& [set, loss] : run.validation)
      if (!loss.empty() && sets.size() < kMostSets) sets.insert(set);
  std::vector<Column> columns(2);
  columns[0] = {"steps", "done, of those planned", {}};
  columns[1] = {"tokens", "", {}};
  Column loss{"final loss", "training, smoothed", {}}, time{"time", "in steps", {}},
      rate{"tokens/s", "first steps left out", {}}, mfu{"MFU", "first steps left out", {}},
      size{"parameters", "", {}};
  std::vector<Column> best;
  for (const std::string& set : sets)
    best.push_back(
        {set == "validation" ? "best validation" : "best " + set, "lowest validation loss", {}});
  for (const RunData& run : runs) {
    columns[0].cells.push_back(
        grouped_count(run.last_step) +
        (run.total_steps > run.last_step ? " of " + grouped_count(run.total_steps) : ""));
    columns[1].cells.push_back(count_text(run.tokens));
    const auto steps = run.steps.find("loss");
    loss.cells.push_back(steps == run.steps.end() ? ""
                                                  : shown(smoothed_last(steps->second), "{:.4f}"));
    size_t i = 0;
    for (const std::string& set : sets) {
      const auto at = run.validation.find(set);
      best[i++].cells.push_back(
          at == run.validation.end() ? "" : shown(at->second.smallest(), "{:.4f}"));
    }
    const bool timed = run.counted_seconds > 0;
    time.cells.push_back(duration(run.seconds));
    rate.cells.push_back(timed ? rate_text(run.counted_tokens / run.counted_seconds) : "");
    mfu.cells.push_back(timed ? shown(100 * run.mfu_seconds / run.counted_seconds, "{:.1f}%") : "");
    const auto parameters = run.facts.find("parameters");
    size.cells.push_back(
        parameters == run.facts.end() ? "" : count_text(std::atof(parameters->second.c_str())));
  }
  columns.push_back(loss);
  columns.insert(columns.end(), best.begin(), best.end());
  columns.insert(columns.end(), {time, rate, mfu, size});
  std::erase_if(columns, [](const Column& c) {
    return std::all_of(c.cells.begin(), c.cells.end(), [](auto& cell) { return cell.empty(); });
  });
  return columns;
}

}  // namespace

std::vector<std::string> run_labels(const std::vector<RunData>& runs) {
  std::vector<std::string> labels;
  for (const RunData& run : runs) labels.push_back(run.name);
  for (size_t i = 0; i < runs.size(); ++i) {
    const auto alike = std::count_if(runs.begin(), runs.end(),
                                     [&](const RunData& r) { return r.name == runs[i].name; });
    if (alike > 1) labels[i] = fs::path(runs[i].path).lexically_normal().string();
  }
  return labels;
}

std::vector<std::pair<std::string, std::vector<std::string>>> different_settings(
    const std::vector<RunData>& runs) {
  std::vector<std::pair<std::string, std::vector<std::string>>> all;  // in order of appearance
  std::map<std::string, size_t> where;
  for (size_t r = 0; r < runs.size(); ++r)
    for (const auto& [path, value] : settings_of(runs[r])) {
      const auto [at, fresh] = where.try_emplace(path, all.size());
      if (fresh) all.emplace_back(path, std::vector<std::string>(runs.size()));
      all[at->second].second[r] = value;
    }
  std::erase_if(all, [](const auto& setting) {
    const std::string& path = setting.first;
    const std::vector<std::string>& values = setting.second;
    return path == "run.name" || path == "run.directory" ||
           std::all_of(values.begin(), values.end(), [&](auto& v) { return v == values[0]; });
  });
  return all;
}

bool batches_differ(const std::vector<RunData>& runs) {
  double common = HUGE_VAL;
  for (const RunData& run : runs)
    if (run.last_step > 0) common = std::min(common, static_cast<double>(run.last_step));
  double low = HUGE_VAL, high = 0;
  for (const RunData& run : runs)
    if (const double tokens = tokens_at(run, common); run.last_step > 0 && tokens > 0)
      low = std::min(low, tokens), high = std::max(high, tokens);
  return high > 1.02 * low;
}

std::string comparison_html(const std::vector<RunData>& runs,
                            const std::vector<std::string>& labels) {
  std::vector<Column> columns = figures(runs);
  const auto settings = different_settings(runs);
  for (size_t i = 0; i < std::min(settings.size(), kMostSettings); ++i)
    columns.push_back({settings[i].first, "setting", settings[i].second, false});
  std::string html = "<div class=wide><table>\n<tr class=head><th>run</th>";
  for (const Column& c : columns)
    html += fmt::format("<th{} title=\"{}\">{}</th>", c.number ? " class=num" : "",
                        html_text(c.hint), html_text(c.title));
  html += "<th>how it ended</th></tr>\n";
  for (size_t r = 0; r < runs.size(); ++r) {
    html += fmt::format("<tr><td><span class='swatch b{}'></span>{}</td>", r % 10,
                        html_text(labels[r]));
    for (const Column& c : columns)
      html += fmt::format("<td{}>{}</td>", c.number ? " class=num" : "", html_text(c.cells[r]));
    html += fmt::format("<td class=text>{}</td></tr>\n", html_text(runs[r].state));
  }
  html += "</table></div>\n";
  if (settings.empty())
    html += "<p class=soft>All settings are the same but for names and folders.</p>\n";
  if (settings.size() > kMostSettings)
    html += fmt::format("<p class=soft>{} more settings differ; see the configurations.</p>\n",
                        settings.size() - kMostSettings);
  return html;
}

}  // namespace ft
