#include "app/report/data.h"

#include "app/run/progress.h"
#include "core/check.h"
#include "core/file.h"
#include "core/path.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>

namespace ft {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

// A run that wrote nothing for so long has ended; slow steps are given more.
constexpr double kFreshSeconds = 600, kFreshSteps = 20;

double number(const json& row, const char* key) {
  const auto at = row.find(key);
  return at != row.end() && at->is_number() ? at->get<double>() : kUnknown;
}

std::string text(const json& row, const char* key) {
  const auto at = row.find(key);
  return at != row.end() && at->is_string() ? at->get<std::string>() : "";
}

void read_classes(const json& row, const char* key, int64_t step,
                  std::map<std::string, Series>& to) {
  const auto at = row.find(key);
  if (at == row.end() || !at->is_object()) return;
  for (const auto& [name, value] : at->items())
    if (value.is_number()) to[name].add(static_cast<double>(step), value.get<double>());
}

class Reader {
 public:
  explicit Reader(RunData& run) : run_(run) {}

  void metrics_row(const json& row) {
    const auto step = static_cast<int64_t>(number(row, "step"));
    const std::string set = text(row, "validation");
    if (!set.empty())
      return run_.validation[set].add(static_cast<double>(step), number(row, "loss"));
    ++run_.rows;
    run_.last_step = std::max(run_.last_step, step);
    for (const char* key :
         {"loss", "grad_norm", "lr", "weight_decay", "batch", "seconds", "tokens_per_second", "mfu",
          "memory_planned_bytes", "memory_peak_bytes", "dt_max"})
      if (const double value = number(row, key); std::isfinite(value))
        run_.steps[key].add(static_cast<double>(step), value);
    const double tokens = number(row, "tokens");
    if (std::isfinite(tokens)) run_.tokens = tokens;
    run_.tokens_at.add(static_cast<double>(step), tokens);
    run_.lr_by_tokens.add(tokens, number(row, "lr"));
    add_time(row, step);
    if (const auto at = row.find("skipped"); at != row.end() && *at == true) {
      ++run_.skipped;
      log_.add_skip(step);
    }
    read_classes(row, "gradient_norms", step, run_.gradients);
    read_classes(row, "weight_norms", step, run_.weights);
    sources(row, step);
  }

  void event_row(const json& row) {
    const auto step = static_cast<int64_t>(number(row, "step"));
    log_.add(row);
    if (text(row, "event") != "start") return;
    run_.facts.clear();
    for (const auto& [key, value] : row.items())
      run_.facts[key] = value.is_string() ? value.get<std::string>() : value.dump();
    if (const double steps = number(row, "steps"); std::isfinite(steps))
      run_.total_steps = static_cast<int64_t>(steps);
    starts_.push_back(step);
  }

  // age: seconds since the run wrote anything; unknown: there is no record.
  void finish(double age) {
    const Series& seconds = run_.steps["seconds"];
    const double step = seconds.empty() ? 0 : seconds.buckets().back().mean();
    run_.events = log_.events();
    run_.state = starts_.empty() ? "unknown: events.jsonl has no start"
                                 : log_.ending(run_.last_step, age,
                                               std::max(kFreshSeconds, kFreshSteps * step));
  }

 private:
  // The first steps of each process are left out of averages.
  void add_time(const json& row, int64_t step) {
    const double seconds = number(row, "seconds"), rate = number(row, "tokens_per_second"),
                 mfu = number(row, "mfu");
    if (!std::isfinite(seconds) || !std::isfinite(rate)) return;
    run_.seconds += seconds;
    for (int64_t start : starts_)
      if (step > start && step <= start + Pace::kWarmUp) return;
    run_.counted_seconds += seconds, run_.counted_tokens += rate * seconds;
    run_.mfu_seconds += mfu * seconds;
  }

  void sources(const json& row, int64_t step) {
    const auto at = row.find("sources");
    if (at == row.end() || !at->is_object()) return;
    const auto x = static_cast<double>(step);
    for (const auto& [name, source] : at->items()) {
      if (!source.is_object()) continue;
      run_.source_loss[name].add(x, number(source, "loss"));
      run_.source_epoch[name].add(x, number(source, "epoch"));
      if (const double tokens = number(source, "tokens"); std::isfinite(tokens))
        run_.source_tokens[name].add(x, taken_[name] += tokens);
    }
  }

  EventLog log_;
  RunData& run_;
  std::vector<int64_t> starts_;
  std::map<std::string, double> taken_;
};

// f(row) for each JSON object that has a step; the number of other lines. -1: no such file.
template <class F>
int64_t each_row(const std::string& path, F&& f) {
  if (!exists(path)) return -1;
  std::ifstream file(path);
  FT_CHECK(file.is_open(), "{}: cannot be opened: {}", path, std::strerror(errno));
  int64_t damaged = 0;
  for (std::string line; std::getline(file, line);) {
    if (line.empty()) continue;
    const json row = json::parse(line, nullptr, false);
    if (row.is_object() && std::abs(number(row, "step")) < 1e15) f(row);
    else ++damaged;
  }
  FT_CHECK(!file.bad(), "{}: cannot be read to its end: {}", path, std::strerror(errno));
  return damaged;
}

void read_configuration(RunData& run) {
  const std::string path = run.path + "/config.yaml";
  try {
    run.config_text = read_text(path);
    run.config = parse_config(run.config_text, path);
  } catch (const Error& error) {
    run.notes.push_back(fmt::format("the configuration could not be read: {}", error.what()));
  }
}

// Seconds since the newest of the files that a run appends to was written.
double age_of(const std::string& path) {
  double least = kUnknown;
  for (const char* name : {"/metrics.jsonl", "/events.jsonl", "/log.txt"}) {
    std::error_code error;
    const auto time = fs::last_write_time(path + name, error);
    if (error) continue;
    const std::chrono::duration<double> age = fs::file_time_type::clock::now() - time;
    if (!(least < age.count())) least = std::max(0.0, age.count());
  }
  return least;
}

}  // namespace

void Series::add(double x, double value) {
  if (!std::isfinite(x) || !std::isfinite(value)) return;
  last_ = value;
  if (buckets_.empty() || buckets_.back().count >= per_bucket_) {
    if (buckets_.size() == kMost) {  // halve
      for (size_t i = 0; i < kMost / 2; ++i) {
        const Bucket &a = buckets_[2 * i], &b = buckets_[2 * i + 1];
        buckets_[i] = {b.x, a.sum + b.sum, std::min(a.low, b.low), std::max(a.high, b.high),
                       a.count + b.count};
      }
      buckets_.resize(kMost / 2);
      per_bucket_ *= 2;
    }
    buckets_.push_back({x, value, value, value, 1});
    return;
  }
  Bucket& b = buckets_.back();
  b.x = std::max(b.x, x), b.sum += value, ++b.count;
  b.low = std::min(b.low, value), b.high = std::max(b.high, value);
}

double Series::smallest() const {
  double least = kUnknown;
  for (const Bucket& b : buckets_) least = std::isnan(least) ? b.low : std::min(least, b.low);
  return least;
}

double tokens_at(const RunData& run, double step) {
  double x0 = 0, y0 = 0;
  for (const Series::Bucket& b : run.tokens_at.buckets()) {
    if (step <= b.x) return b.x > x0 ? y0 + (b.high - y0) * (step - x0) / (b.x - x0) : b.high;
    x0 = b.x, y0 = b.high;
  }
  return y0;
}

RunData read_run(const std::string& path) {
  FT_CHECK_CONFIG(fs::is_directory(path), "{}: no such folder; name a run's, e.g. runs/quickstart",
                  path);
  FT_CHECK_CONFIG(
      fs::exists(path + "/metrics.jsonl") || fs::exists(path + "/config.yaml"),
      "{}: not a run's folder: it has neither metrics.jsonl nor config.yaml; name the folder that "
      "falcon-train train made, e.g. runs/quickstart",
      path);
  RunData run;
  run.path = path;
  run.name = fs::absolute(path).lexically_normal().filename().string();
  if (run.name.empty())  // a slash at the end
    run.name = fs::absolute(path).lexically_normal().parent_path().filename().string();
  read_configuration(run);
  Reader reader(run);
  const int64_t torn =
      each_row(path + "/events.jsonl", [&](const json& row) { reader.event_row(row); });
  if (torn > 0)
    run.notes.push_back(
        fmt::format("{} lines of events.jsonl could not be read and were left out", torn));
  const int64_t damaged =
      each_row(path + "/metrics.jsonl", [&](const json& row) { reader.metrics_row(row); });
  reader.finish(age_of(path));
  if (damaged < 0) run.notes.push_back("metrics.jsonl is missing: there is nothing to plot");
  else if (run.rows == 0) run.notes.push_back("metrics.jsonl has no step yet");
  run.damaged = std::max<int64_t>(damaged, 0);
  if (run.damaged > 0)
    run.notes.push_back(
        fmt::format("{} lines of metrics.jsonl could not be read and were left out", run.damaged));
  return run;
}

}  // namespace ft
