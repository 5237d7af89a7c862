// The report of runs that never were: complete, empty, damaged, huge, with names that are markup.
#include "tests/catch.h"

#include "app/report/chart.h"
#include "app/report/page.h"
#include "app/report/parts.h"
#include "app/run/run_folder.h"
#include "core/check.h"
#include "core/file.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <filesystem>

using namespace ft;
namespace fs = std::filesystem;

namespace {

std::string folder_of(const std::string& name) {
  const fs::path path = fs::temp_directory_path() / fmt::format("ft-page-{}", ::getpid()) / name;
  fs::remove_all(path);
  return path.string();
}

const char* const kConfig =
    "model: {vocab_size: 257, hidden_size: 32, intermediate_size: 48, num_hidden_layers: 2, "
    "num_attention_heads: 4, num_key_value_heads: 2, head_dim: 8, mamba_d_ssm: 48, "
    "mamba_n_heads: 6, mamba_d_state: 8}\n"
    "data: {sequence_length: 10, train: [{name: '<script>alert(1)</script>', path: set}]}\n"
    "train: {tokens: 3000, global_batch: 10}\n"
    "schedule: {type: wsd, warmup: 300, decay: 1000}\n";

StepRecord record(int64_t step) {
  StepRecord r;
  r.step = step, r.steps = 30, r.tokens = step * 100, r.batch = 10;
  r.loss = 5 / std::sqrt(static_cast<double>(step)), r.grad_norm = 1, r.lr = 1e-3;
  r.seconds = 0.5, r.tokens_per_second = 200, r.mfu = 0.4, r.dt_max = 0.5;
  r.memory = 1 << 20, r.memory_peak = 2 << 20;
  r.sources["<script>alert(1)</script>"] = {.loss = r.loss, .tokens = 60, .epoch = 0.1};
  r.sources["web & 'books'"] = {.loss = kUnknown, .tokens = 40, .epoch = 0.2};
  r.gradient_norms = {{"q", 0.1}, {"embedding", 2}}, r.weight_norms = {{"q", 10}};
  return r;
}

// A run of 20 of 30 steps that was resumed at step 10 and left out step 15.
std::string example(const std::string& name) {
  const std::string path = folder_of(name);
  for (int64_t from : {0, 10}) {
    RunFolder folder(path, kConfig, from, false);
    folder.event("start", from,
                 {.texts = {{"machine", "a <b> machine"}, {"pattern", "PP"}},
                  .numbers = {{"ranks", 2}, {"parameters", 12345678}, {"steps", 30}}});
    for (int64_t step = from + 1; step <= from + 10; ++step) {
      StepRecord r = record(step);
      if (step == 15) r.skipped = true, r.loss = kUnknown;
      folder.add(r);
    }
    folder.add(ValidationRecord{.step = from + 10, .set = "web\"<i>", .loss = 3, .tokens = 9});
  }
  return path;
}

size_t count(const std::string& text, const std::string& what) {
  size_t n = 0;
  for (size_t at = 0; (at = text.find(what, at)) != text.npos; at += what.size()) ++n;
  return n;
}

}  // namespace

TEST_CASE("a page shows what the run did") {
  const RunData run = read_run(example("run <1> & \"co\""));
  CHECK(run.rows == 20);
  CHECK(run.skipped == 1);
  CHECK(run.total_steps == 30);
  CHECK(run.notes.empty());
  const std::vector<Mark> marks = marks_of(run);
  REQUIRE(marks.size() == 2);
  CHECK(marks[0].x == 10);
  CHECK(marks[1].x == 15);
  CHECK(run.counted_seconds == 0.5 * 16);  // two starts with two steps each left out
  const std::string page = report_html({run});
  for (const char* title : {"Training loss",     "Validation loss",
                            "Learning rate",     "Gradient norm",
                            "Throughput",        "MFU",
                            "Step time",         "Memory of a rank",
                            "Loss by source",    "Tokens by source",
                            "Epochs by source",  "Gradient norms: embedding",
                            "Weight norms",      "Largest dt",
                            "12.35M parameters", "Resolved configuration",
                            "20 of 30",          "planned",
                            "resumed",           "step left out"})
    CHECK(page.find(title) != page.npos);
  // Nothing of a name is markup, and nothing is fetched.
  CHECK(page.find("<script") == page.npos);
  CHECK(page.find("<b>") == page.npos);
  CHECK(page.find("&lt;script&gt;alert(1)") != page.npos);
  CHECK(page.find("run &lt;1&gt; &amp; &quot;co&quot;") != page.npos);
  CHECK(page.find("http") == page.npos);
  CHECK(page.find("nan") == page.npos);
  CHECK(page.find("inf") == page.npos);
  CHECK(count(page, "<figure>") == count(page, "</figure>"));
  CHECK(count(page, "<svg") == count(page, "</svg>"));
}

namespace {

// Events of a run as they stand in its file.
RunData with_events(const std::string& name, const std::string& lines, double hours = 0) {
  const std::string path = example(name);
  write_text(path + "/events.jsonl", lines);
  if (hours > 0)
    for (const auto& entry : fs::directory_iterator(path))
      fs::last_write_time(entry, fs::file_time_type::clock::now() -
                                     std::chrono::seconds(static_cast<int64_t>(3600 * hours)));
  return read_run(path);
}

const char* const kStart =
    R"({"time":"2026-01-02T03:04:05Z","event":"start","step":0,"steps":30,"parameters":12345678})"
    "\n";

std::string with_batch(std::string config, const char* batch, const char* lr) {
  config.replace(config.find("global_batch: 10"), 16, std::string("global_batch: ") + batch);
  return config + "optimizer: {lr: " + lr + "}\nrun: {name: " + batch + "}\n";
}

// A run whose steps have so many tokens.
std::string with_steps(const std::string& name, const char* batch, const char* lr,
                       int64_t tokens_a_step) {
  const std::string path = folder_of(name);
  RunFolder folder(path, with_batch(kConfig, batch, lr), 0, false);
  folder.event("start", 0, {.texts = {}, .numbers = {{"steps", 30}}});
  for (int64_t step = 1; step <= 20; ++step) {
    StepRecord r = record(step);
    r.tokens = step * tokens_a_step;
    folder.add(r);
  }
  folder.add(ValidationRecord{.step = 20, .set = "web", .loss = 3.25, .tokens = 9});
  return path;
}

}  // namespace

TEST_CASE("how a run ended is said in words") {
  const std::string start = kStart;
  const auto state = [&](const std::string& lines, double hours = 0) {
    return with_events("ended", start + lines, hours).state;
  };
  CHECK(state(R"({"event":"done","step":20,"path":"c/step-20"})") == "done");
  CHECK(state(R"({"event":"stop","step":20,"why":"SIGTERM","path":"c/step-20"})") ==
        "stopped by SIGTERM, saved as c/step-20 after step 20; can be resumed");
  CHECK(state(R"({"event":"stop","step":20})") == "stopped after step 20; can be resumed");
  CHECK(state("{\"event\":\"failure\",\"step\":20,\"message\":\"disk <full>\",\"rank\":1}\n"
              "{\"event\":\"failure\",\"step\":20,\"message\":\"another rank failed\"}") ==
        "failed: disk <full> (rank 1), after step 20");
  CHECK(state("").starts_with("in progress, last heard of"));
  CHECK(state("", 0.1).starts_with("in progress, last heard of 6m"));
  CHECK(state("", 5).starts_with("ended without a word after step 20: nothing was written for 5h"));
  // A run that failed and goes on is in progress; one that is done may be resumed.
  const std::string failed = R"({"event":"failure","step":9,"message":"m"})";
  const std::string again = "\n{\"event\":\"start\",\"step\":8,\"time\":\"t\"}\n";
  CHECK(state(failed + again).starts_with("in progress"));
  CHECK(state(failed + again + R"({"event":"done","step":20})") == "done");
  CHECK(with_events("silent", "").state == "unknown: events.jsonl has no start");
}

TEST_CASE("events are marked on the plots and listed") {
  const std::string lines =
      kStart + std::string(R"({"event":"save","step":4,"path":"c/step-4","seconds":1.25}
{"event":"spike","step":6,"why":"loss 9.5 is 22 sigma above","action":"skip"}
{"event":"skip","step":6,"why":"spike"}
{"event":"spike","step":9,"why":"of a course that was left"}
{"event":"failure","step":9,"message":"<rank> 1 died"}
{"event":"start","step":8,"time":"later","resumed_from":"c/step-8"}
{"event":"resume","step":8,"from":"c/step-8","bitwise":"yes","changed":[{"what":"optimizer.lr","from":"1e-3","to":"2e-3"}]}
{"event":"save_failed","step":12,"why":"disk full","next":"next try at step 13"}
{"event":"non_finite","step":14,"why":"grad_norm is NaN","action":"stop"}
{"event":"validation_failed","step":16,"set":"web","why":"bad id"}
{"event":"removal","step":16,"path":"c/step-4"}
{"event":"novelty","step":17,"why":"of a later version"}
{"event":"stop","step":20,"why":"SIGTERM","path":"c/step-20"}
not json
)");
  const RunData run = with_events("events", lines);
  CHECK(run.state == "stopped by SIGTERM, saved as c/step-20 after step 20; can be resumed");
  REQUIRE(run.notes.size() == 1);
  CHECK(run.notes[0].starts_with("1 lines of events.jsonl"));
  std::vector<std::pair<double, bool>> marks;
  for (const Mark& m : marks_of(run)) marks.emplace_back(m.x, m.small);
  // The tooth of the save first; the spike of step 9 was left; start and resume are one.
  CHECK(marks == std::vector<std::pair<double, bool>>{{4, true},
                                                      {6, false},
                                                      {6, false},
                                                      {8, false},
                                                      {12, false},
                                                      {14, false},
                                                      {16, false},
                                                      {17, false},
                                                      {20, false},
                                                      {15, false}});
  const std::string page = report_html({run});
  for (const char* part :
       {"saved c/step-4 in 1.2 s", "spike: loss 9.5 is 22 sigma above, action: skip",
        "step left out: spike", "class=left", "failed: &lt;rank&gt; 1 died",
        "resumed from c/step-8; optimizer.lr: 1e-3 -&gt; 2e-3",
        "a save failed: disk full; next try at step 13",
        "not finite: grad_norm is NaN, action: stop", "validation failed on web: bad id",
        "removed c/step-4", "novelty: of a later version", "<title>step 6: spike"}) {
    INFO(part);
    CHECK(page.find(part) != page.npos);
  }
}

TEST_CASE("many events stay few marks, and saves give way first") {
  std::string lines = kStart;
  for (int i = 1; i <= 5000; ++i)
    lines += fmt::format("{{\"event\":\"{}\",\"step\":{}}}\n", i % 20 ? "save" : "spike", i);
  const auto marks = marks_of(with_events("many", lines));
  CHECK(marks.size() <= 500);
  CHECK(std::count_if(marks.begin(), marks.end(), [](const Mark& m) { return !m.small; }) == 200);
}

TEST_CASE("several runs: one table, the settings that differ, shared plots") {
  const RunData a = read_run(with_steps("alpha", "10", "1e-3", 100)),
                b = read_run(with_steps("beta", "20", "2e-3", 200)),
                c = read_run(with_steps("gamma", "10", "1e-3", 100));
  CHECK(!batches_differ({a, c}));
  CHECK(batches_differ({a, b}));
  CHECK(tokens_at(b, 7) == 1400);
  CHECK(tokens_at(b, 7.5) == 1500);
  const auto settings = different_settings({a, b, c});
  REQUIRE(settings.size() == 2);
  CHECK(settings[0].first == "train.global_batch");
  CHECK(settings[0].second == std::vector<std::string>{"10", "20", "10"});
  CHECK(settings[1].first == "optimizer.lr");
  CHECK(different_settings({a, c}).empty());

  const std::string page = report_html({a, b, c});
  for (const char* part : {"3 runs compared", "plots over tokens", ">alpha<", ">beta<",
                           "train.global_batch", "optimizer.lr", "how it ended", "3.2500",
                           "20 of 30", "Validation loss: web", "gamma: planned"}) {
    INFO(part);
    CHECK(page.find(part) != page.npos);
  }
  CHECK(page.find("Loss by source") == page.npos);
  CHECK(count(page, "<figcaption>Training loss") == 1);
  CHECK(page.find("<figcaption>Training loss") < page.find("Resolved configuration"));
  CHECK(count(page, "Resolved configuration") == 3);
  CHECK(report_html({a, c}).find("plots over steps") != std::string::npos);
  CHECK(report_html({a, c}).find("All settings are the same") != std::string::npos);
  CHECK(grouped_count(1234567) == "1,234,567");
  CHECK(grouped_count(-123) == "-123");
  // Runs of one name are told apart by their paths.
  const auto labels = run_labels({a, b, a});
  CHECK(labels[1] == "beta");
  CHECK(labels[0].ends_with("/alpha"));
}

TEST_CASE("where a report goes: beside one run, here for several, or to standard output") {
  const std::string one = example("one"), two = example("two");
  const fs::path here = fs::current_path();
  write_report({one}, "");
  const std::string page = read_text(one + "/report.html");
  fs::current_path(one);
  write_report({one, two}, "");
  CHECK(fs::exists("compare.html"));
  fs::current_path(here);
  CHECK(read_text(one + "/report.html") == page);
}

TEST_CASE("damaged, empty and missing metrics") {
  const std::string path = example("damaged");
  {
    std::FILE* file = std::fopen((path + "/metrics.jsonl").c_str(), "a");
    std::fputs(
        "not json\n[]\n{\"step\":\"x\"}\n\n{\"step\":21,\"loss\":\"a\",\"sources\":3}\n{\"st",
        file);
    std::fclose(file);
  }
  const RunData damaged = read_run(path);
  CHECK(damaged.damaged == 4);
  CHECK(damaged.rows == 21);
  CHECK(report_html({damaged}).find("4 lines") != std::string::npos);

  write_text(path + "/metrics.jsonl", "");
  CHECK(report_html({read_run(path)}).find("no step yet") != std::string::npos);
  fs::remove(path + "/metrics.jsonl");
  fs::remove(path + "/events.jsonl");
  CHECK(report_html({read_run(path)}).find("missing") != std::string::npos);
  write_text(path + "/config.yaml", "model: [");
  CHECK(report_html({read_run(path)}).find("could not be read") != std::string::npos);
  fs::remove(path + "/config.yaml");
  CHECK_THROWS_AS(read_run(path), ConfigError);
  CHECK_THROWS_AS(read_run(path + "/nowhere"), ConfigError);
}

TEST_CASE("a series of a million steps stays small and keeps its spikes") {
  Series series;
  for (int i = 1; i <= 1000000; ++i) series.add(i, i == 777777 ? 100 : 1);
  series.add(1000001, std::nan(""));
  CHECK(series.buckets().size() <= Series::kMost);
  CHECK(series.buckets().size() >= Series::kMost / 2);
  int64_t total = 0;
  double high = 0, x = 0;
  for (const auto& b : series.buckets()) {
    total += b.count, high = std::max(high, b.high);
    CHECK(b.x > x);
    x = b.x;
  }
  CHECK(total == 1000000);
  CHECK(high == 100);
  CHECK(x == 1000000);
}

TEST_CASE("ticks are round and inside") {
  CHECK(ticks(0, 10, 5) == std::vector<double>{0, 2, 4, 6, 8, 10});
  CHECK(ticks(3, 3, 5) == std::vector<double>{3});
  for (double low : {-3.7, 0.0, 1e-9, 123456.0})
    for (double width : {1e-6, 0.3, 7.0, 1e9})
      for (double at : ticks(low, low + width, 6))
        CHECK((at >= low - 1e-9 * width && at <= low + width * (1 + 1e-9)));
  CHECK(tick_text(250000, 50000) == "250k");
  CHECK(tick_text(0, 1) == "0");
  CHECK(tick_text(3e-4, 1e-4) == "3.0e-04");
  CHECK(chart_html({.title = "none", .curves = {{}}}).empty());
}

namespace {

struct Opened {
  std::string dom, log;
  bool requests;  // whether the page asked the network for anything
};

// The browser calls its maker on its own account; a request of the page says that its site is a
// file.
Opened open_page(const std::string& name, const std::string& html) {
  const std::string work = folder_of(name);
  write_text(work + "/page.html", html);
  const std::string command = fmt::format(
      "chromium --headless=new --no-sandbox --disable-gpu --disable-background-networking "
      "--disable-component-update --no-first-run --user-data-dir={0}/profile "
      "--enable-logging=stderr --log-net-log={0}/net.json --dump-dom file://{0}/page.html "
      "> {0}/dom.html 2> {0}/log.txt",
      work);
  const int status = std::system(command.c_str());
  REQUIRE((WIFEXITED(status) && WEXITSTATUS(status) == 0));
  const std::string net = read_text(work + "/net.json");
  return {read_text(work + "/dom.html"), read_text(work + "/log.txt"),
          net.find("site=file://") != net.npos};
}

}  // namespace

TEST_CASE("headless Chromium opens the page without errors or requests", "[.chromium]") {
  const std::string path = example("chromium <1>");
  write_report({path}, "");
  const std::string html = read_text(path + "/report.html");
  const Opened page = open_page("browser", html);
  CHECK(count(page.dom, "<figure>") == count(html, "<figure>"));
  CHECK(page.dom.find("</html>") != page.dom.npos);
  CHECK(page.log.find("CONSOLE") == page.log.npos);
  CHECK(!page.requests);
  // What the checks look for is what a page that does such things shows.
  const Opened other = open_page(
      "other", "<img src='http://127.0.0.1:9/x.png'><script>console.error('seen')</script>");
  CHECK(other.log.find("CONSOLE") != other.log.npos);
  CHECK(other.requests);
}
