// report: reads runs and writes their page.
#include "app/report/page.h"

#include "app/commands/command.h"
#include "app/commands/command_line.h"
#include "app/commands/outputs.h"
#include "app/report/parts.h"
#include "app/run/metrics.h"
#include "core/file.h"
#include "core/log.h"

#include <cstdio>
#include <filesystem>
#include <memory>

namespace ft {

namespace {

struct ReportOptions {
  std::vector<std::string> runs;  // folders
  std::string out;
};

}  // namespace

void write_report(const std::vector<std::string>& folders, const std::string& to) {
  std::vector<RunData> runs;
  for (const std::string& path : folders) runs.push_back(read_run(path));
  const bool single = runs.size() == 1;
  const std::string out = !to.empty() ? to
                          : single    ? (std::filesystem::path(folders[0]) / "report.html").string()
                                      : "compare.html";
  check_output("--out", out, folders);
  for (const RunData& run : runs)
    for (const std::string& note : run.notes)
      fmt::print(stderr, "warning: {}: {}\n", run.path, note);
  if (out == "-") {
    std::fputs(report_html(runs).c_str(), stdout);
    return;
  }
  write_text(out, report_html(runs));
  const auto labels = run_labels(runs);
  std::string counts;
  for (size_t i = 0; i < runs.size(); ++i)
    counts += fmt::format("{}{}{} steps", i ? ", " : "", single ? "" : labels[i] + " ",
                          grouped_count(runs[i].rows));
  log_info("{}: {} run{}, {}; open it in a browser", out, runs.size(), single ? "" : "s", counts);
}

void add_report(CLI::App& app, Run& run) {
  const auto o = std::make_shared<ReportOptions>();
  auto* c = app.add_subcommand("report", "One HTML page of a run's plots, or of several runs'");
  c->footer(
      "Example: falcon-train report runs/quickstart --out report.html\n"
      "         falcon-train report runs/a runs/b --out compare.html");
  c->add_option("RUN_DIR", o->runs, "Folders of runs; several are compared")->required();
  c->add_option(
       "--out", o->out,
       "File to write; -: standard output. Default: report.html in the run's folder, compare.html "
       "here for several")
      ->type_name("FILE");
  c->callback([o, &run] {
    run = alone([o] {
      write_report(o->runs, o->out);
      return 0;
    });
  });
}

}  // namespace ft
