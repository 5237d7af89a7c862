#include "app/run_folder.h"

#include "core/check.h"
#include "core/file.h"
#include "core/log.h"

#include <nlohmann/json.hpp>

#include <chrono>
#include <cmath>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <utility>

namespace ft {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

// Drops the lines of later steps, and lines that are damaged (a kill in the middle of one).
void keep_lines_until(const std::string& path, int64_t step) {
  std::ifstream file(path);
  AtomicFile kept(path);
  std::string line;
  while (step > 0 && std::getline(file, line)) {
    const json object = json::parse(line, nullptr, false);
    if (!object.is_object()) continue;
    const auto at = object.find("step");
    if (at != object.end() && at->is_number_integer() && at->get<int64_t>() <= step)
      kept.write(line + "\n");
  }
  kept.commit();
}

// Sets that a line of that step tells the loss of.
std::set<std::string> sets_validated(const std::string& path, int64_t step) {
  std::set<std::string> sets;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.find("\"validation\"") == std::string::npos) continue;
    const json object = json::parse(line, nullptr, false);
    if (object.is_object() && object.value("step", json()) == json(step))
      sets.insert(object.value("validation", ""));
  }
  return sets;
}

std::string time_text() {  // UTC, ISO 8601
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  ::gmtime_r(&now, &utc);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text;
}

std::string event_line(const std::string& name, int64_t step, const RunFacts& facts) {
  json object = {{"time", time_text()}, {"event", name}, {"step", step}};
  for (const auto& [key, text] : facts.texts) object[key] = text;
  for (const auto& [key, value] : facts.numbers)
    object[key] = std::isfinite(value) ? json(value) : json(nullptr);
  if (facts.changed) {
    json& list = object["changed"] = json::array();
    for (const Change& c : *facts.changed)
      list.push_back({{"what", c.what}, {"from", c.from}, {"to", c.to}});
  }
  return object.dump(-1, ' ', false, json::error_handler_t::replace);
}

struct Failure {
  std::string path;  // of the events; empty: nowhere
  int rank = 0;
  int64_t step = 0;
};
Failure g_failure;

void write_config(const std::string& path, const std::string& config, int64_t step) {
  const std::string file = path + "/config.yaml";
  if (step > 0 && fs::exists(file) && read_text(file) != config)
    fs::rename(file, fmt::format("{}/config.until-step-{:08}.yaml", path, step));
  write_text(file, config);
}

}  // namespace

// A line that a killed process left unfinished is ended, or it would spoil the next one.
LineFile::LineFile(const std::string& path) : path_(path), file_(std::fopen(path.c_str(), "a+")) {
  FT_CHECK(file_, "{}: cannot be written: {}", path, std::strerror(errno));
  torn_ = std::fseek(file_, -1, SEEK_END) == 0 && std::fgetc(file_) != '\n';
}
LineFile::~LineFile() { std::fclose(file_); }

void LineFile::add(const std::string& text) {
  const std::string whole = (torn_ ? "\n" : "") + text + "\n";
  torn_ = std::fwrite(whole.data(), 1, whole.size(), file_) != whole.size();
  torn_ |= std::fflush(file_) != 0;
  if (torn_ && !std::exchange(told_, true))
    log_warn("{}: cannot be written ({}); lines are missing from now on", path_,
             std::strerror(errno));
  if (torn_) std::clearerr(file_);
}

RunFolder::RunFolder(const std::string& path, const std::string& config, int64_t step,
                     bool tensorboard) {
  std::error_code error;
  fs::create_directories(path, error);
  FT_CHECK(!error, "{}: the run's folder cannot be made: {}; set run.directory to another place",
           path, error.message());
  write_config(path, config, step);
  keep_lines_until(path + "/metrics.jsonl", step);
  if (step > 0) validated_ = sets_validated(path + "/metrics.jsonl", step);
  metrics_.emplace(path + "/metrics.jsonl");
  events_.emplace(path + "/events.jsonl");
  if (tensorboard) tensorboard_.emplace(path + "/tensorboard", step + 1);
}

template <class Record>
void RunFolder::show(const Record& record) {
  metrics_->add(json_line(record));
  if (!tensorboard_) return;
  EventFile::Scalars scalars;
  for_scalars(record,
              [&](const std::string& tag, double value) { scalars.emplace_back(tag, value); });
  tensorboard_->add(record.step, scalars);
}

void RunFolder::add(const StepRecord& record) { show(record); }
void RunFolder::add(const ValidationRecord& record) { show(record); }

void RunFolder::event(const std::string& name, int64_t step, const RunFacts& facts) {
  events_->add(event_line(name, step, facts));
}

void record_failures_in(const std::string& path, int rank) {
  g_failure = {.path = path.empty() ? "" : path + "/events.jsonl", .rank = rank, .step = 0};
}
void failure_step(int64_t step) { g_failure.step = step; }

void record_failure(const std::string& message, int exit_code) noexcept try {
  if (g_failure.path.empty()) return;
  const RunFacts facts{.texts = {{"message", message}},
                       .numbers = {{"rank", g_failure.rank}, {"exit_code", exit_code}}};
  LineFile(g_failure.path).add(event_line("failure", g_failure.step, facts));
} catch (...) {  // a full disk, say; standard error has it
}

}  // namespace ft
