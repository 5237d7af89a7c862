// Parts of the report: a run's head (header.cpp), what happened in it (marks.cpp, events.cpp), and
// several runs in one table (compare.cpp).
#pragma once

#include "app/report/chart.h"
#include "app/report/data.h"

#include <map>
#include <string>
#include <vector>

namespace ft {

std::string header_html(const RunData& run);

// On a plot over steps: resumes, spikes, steps left out, failures and stops as lines, saves as
// teeth. Bounded in number; saves give way first.
std::vector<Mark> marks_of(const RunData& run);
std::string events_html(const RunData& run);  // empty where nothing is known

// Names of the runs, each different from the others: of the folders, or with as much of their paths
// as it takes.
std::vector<std::string> run_labels(const std::vector<RunData>& runs);
// A row a run: how it ended, its figures, and the settings in which the runs differ.
std::string comparison_html(const std::vector<RunData>& runs,
                            const std::vector<std::string>& labels);
// By path of the setting ("optimizer.lr"): its value in each run, "" where it has none; run.name and
// run.directory are left out. Only those that differ.
std::vector<std::pair<std::string, std::vector<std::string>>> different_settings(
    const std::vector<RunData>& runs);
// Whether a step of one run is another number of tokens than of another: steps do not compare then.
bool batches_differ(const std::vector<RunData>& runs);

double smoothed_last(const Series& series);  // the end of the smoothed curve; NaN: no values

}  // namespace ft
