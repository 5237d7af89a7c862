// Lines for people: their form, their width, what averages leave out.
#include "tests/catch.h"

#include "app/run/progress.h"

#include <cmath>
#include <regex>

using namespace ft;

namespace {

StepRecord record() {
  StepRecord r;
  r.step = 1200, r.steps = 19073, r.tokens = 1200 * 4096;
  r.loss = 3.18241, r.grad_norm = 0.412, r.lr = 1.28e-3;
  r.seconds = 3.689, r.tokens_per_second = 142100, r.mfu = 0.4861, r.eta = 18 * 3600 + 20 * 60;
  r.memory_peak = int64_t{61} << 30, r.memory_total = int64_t{140} << 30;
  return r;
}

std::string without_colour(const std::string& text) {
  return std::regex_replace(text, std::regex("\x1b\\[[0-9]*m"), "");
}

}  // namespace

TEST_CASE("the line of a step") {
  StepRecord r = record();
  CHECK(step_line(r) ==
        "step  1200/19073  6.3%  loss 3.1824  grad 0.41  lr 1.28e-03  142.1k tok/s  MFU 48.6%  "
        "step 3.69s  eta 18h20m  mem 61.0/140.0 GiB");
  r.mfu = kUnknown, r.seconds = 0.0834, r.skipped = true, r.loss = kUnknown;
  const std::string line = step_line(r);
  CHECK(line.find("MFU") == line.npos);
  CHECK(line.find("step 0.083s") != line.npos);
  CHECK(line.find("  no labels  lr") != line.npos);
  r.labels = 8;
  CHECK(step_line(r).find("loss nan") != line.npos);
  CHECK(line.ends_with("skipped"));
}

TEST_CASE("the status line is never wider than the terminal") {
  const StepRecord r = record();
  for (int columns = 1; columns < 200; ++columns)
    for (bool colour : {false, true}) {
      const std::string line =
          status_line(r, {.present = true, .colour = colour, .columns = columns});
      INFO(columns << ": " << line);
      CHECK(static_cast<int>(without_colour(line).size()) < std::max(columns, 2));
      CHECK((line.find('\x1b') != line.npos) == (colour && line.find('[') != line.npos));
    }
  CHECK(status_line(r, {.present = true, .columns = 40}) == "step 1200/19073  6.3%  eta 18h20m");
  CHECK(status_line(r, {.present = true, .columns = 81}) ==
        "step 1200/19073  6.3%  [#---------------]  loss 3.1824  142.1k tok/s  eta 18h20m");
}

TEST_CASE("averages leave the first steps out") {
  Pace pace;
  StepRecord r = record();
  CHECK(pace.summary().empty());
  for (int64_t step = 1; step <= 6; ++step) {
    r.seconds = step <= Pace::kWarmUp ? 100 : 2, r.tokens_per_second = 1000 / r.seconds;
    r.mfu = 1 / r.seconds;
    pace.add(r);
  }
  CHECK(pace.recent_seconds() == 2);
  CHECK(pace.summary() ==
        "average of 4 steps (the first 2 left out): 500 tok/s, MFU 50.0%, step 2.00s");
}

TEST_CASE("durations and counts") {
  CHECK(duration(12.9) == "12s");
  CHECK(duration(185) == "3m05s");
  CHECK(duration(18 * 3600 + 20 * 60 + 1) == "18h20m");
  CHECK(duration(-1) == "0s");
  CHECK(duration(std::nan("")) == "?");
  CHECK(duration(1e300) == "?");
  CHECK(rate_text(812) == "812");
  CHECK(rate_text(142100) == "142.1k");
  CHECK(rate_text(1.25e6) == "1.25M");
  CHECK(count_text(1.5e12) == "1.50T");
}
