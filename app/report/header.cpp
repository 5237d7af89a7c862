// The head of a run's page: how it ended, its figures, and the facts about model, data and machine.
#include "app/report/parts.h"
#include "app/run/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace ft {

namespace {

std::string validation_name(const std::string& set) {
  return set == "validation" ? set : "validation: " + set;
}

std::vector<std::pair<std::string, std::string>> facts(const RunData& run) {
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
        "layout", fmt::format("{} rank{}; tensor {}, pipeline {}, context {}; {}", amount("ranks"),
                              amount("ranks") == "1" ? "" : "s", c.parallel.tensor,
                              c.parallel.pipeline, c.parallel.context, c.train.precision));
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
    rows.emplace_back("MFU",
                      fmt::format("model FLOPs / measured sgemm of the run ({:.1f} GFLOP/s at "
                                  "the last start); causal attention counted once, "
                                  "recomputation not counted; first steps left out",
                                  std::atof(fact("sgemm_flops").c_str()) * 1e-9));
  rows.emplace_back("last start", fact("time"));
  rows.emplace_back("folder", run.path);
  return rows;
}

}  // namespace

std::string header_html(const RunData& run) {
  static const Series none;
  const auto found = run.steps.find("loss");
  const Series& loss = found == run.steps.end() ? none : found->second;
  const double total = static_cast<double>(std::max<int64_t>(run.total_steps, run.last_step));
  const double share = total > 0 ? 100 * static_cast<double>(run.last_step) / total : 0;
  std::string html = fmt::format("<h1>{}</h1>\n<div class=soft>{}</div>\n", html_text(run.name),
                                 html_text(run.state));
  for (const std::string& note : run.notes)
    html += fmt::format("<div class=note>{}</div>\n", html_text(note));
  html += "<div class=numbers>\n";
  const auto show = [&](const std::string& label, const std::string& value) {
    html += fmt::format("<div><small>{}</small>{}</div>\n", html_text(label), html_text(value));
  };
  show("steps", grouped_count(run.last_step) +
                    (run.total_steps > 0
                         ? fmt::format(" of {} ({:.1f}%)", grouped_count(run.total_steps), share)
                         : std::string()));
  show("tokens", count_text(run.tokens));
  if (!loss.empty()) show("last training loss", fmt::format("{:.4f}", loss.last()));
  for (const auto& [set, values] : run.validation)
    if (!values.empty())
      show(validation_name(set),
           fmt::format("{:.4f} (lowest {:.4f})", values.last(), values.smallest()));
  if (run.counted_seconds > 0) {
    show("tokens/s", rate_text(run.counted_tokens / run.counted_seconds));
    if (const double mfu = run.mfu_seconds / run.counted_seconds; std::isfinite(mfu))
      show("MFU", fmt::format("{:.1f}%", 100 * mfu));
  }
  show("time in steps", duration(run.seconds));
  if (run.skipped > 0) show("steps left out", fmt::format("{}", run.skipped));
  html += "</div>\n<table>\n";
  for (const auto& [label, value] : facts(run))
    if (!value.empty())
      html += fmt::format("<tr><th>{}</th><td>{}</td></tr>\n", html_text(label), html_text(value));
  html += "</table>\n";
  return html;
}

}  // namespace ft
