// The report of runs: one HTML page that needs nothing else, plots as SVG in it.
#pragma once

#include "app/report/data.h"

#include <string>
#include <vector>

namespace ft {

// One run: all its plots. Several: those in which they can be compared.
std::string report_html(const std::vector<RunData>& runs);

// That page of the runs in these folders. `to`: a file; "-": standard output; empty: report.html in
// the run's folder, for several compare.html here.
void write_report(const std::vector<std::string>& folders, const std::string& to);

// The learning rate as planned: factor of tokens seen, at `points` places from 0 to the run's end.
std::vector<std::pair<double, double>> planned_lr(const Config& config, int points);

}  // namespace ft
