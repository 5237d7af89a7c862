#include "app/run/run_folder.h"

#include "core/check.h"
#include "core/file.h"
#include "core/log.h"
#include "core/path.h"

#include <nlohmann/json.hpp>

#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <optional>

namespace ft {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

// A line's step; nothing where it is damaged (a kill in the middle of it).
std::optional<int64_t> step_of(const std::string& line) {
  const json object = json::parse(line, nullptr, false);
  if (!object.is_object()) return std::nullopt;
  const auto at = object.find("step");
  if (at == object.end() || !at->is_number_integer()) return std::nullopt;
  return at->get<int64_t>();
}

// FOLDER/NAME.after-step-XXXXXXXX.jsonl, or with .2, .3, ... the first that is free.
std::string free_name(const std::string& folder, const std::string& name, int64_t step) {
  for (int n = 1;; ++n) {
    const std::string path = fmt::format("{}/{}.after-step-{:08}{}.jsonl", folder, name, step,
                                         n == 1 ? "" : fmt::format(".{}", n));
    if (!exists(path)) return path;
  }
}

// Moves the lines of later steps, and damaged ones, to a file of their own.
void keep_lines_until(const std::string& folder, const std::string& name, int64_t step) {
  const std::string path = folder + "/" + name + ".jsonl";
  if (!exists(path)) return;
  std::ifstream file(path);
  FT_CHECK(file.is_open(), "{}: cannot be opened: {}", path, std::strerror(errno));
  AtomicFile kept(path);
  std::optional<AtomicFile> aside;
  std::string line;
  while (std::getline(file, line)) {
    const auto at = step_of(line);
    const bool stays = step > 0 && at && *at <= step;
    if (!stays && !aside) aside.emplace(free_name(folder, name, step));
    (stays ? kept : *aside).write(line + "\n");
  }
  FT_CHECK(!file.bad(), "{}: cannot be read to its end: {}", path, std::strerror(errno));
  if (!aside) return;
  aside->commit();
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
  if (step > 0 && exists(file) && read_text(file) != config)
    fs::rename(file, fmt::format("{}/config.until-step-{:08}.yaml", path, step));
  write_text(file, config);
}

}  // namespace

// A line that a killed process left unfinished is ended, or it would spoil the next one.
LineFile::LineFile(const std::string& path)
    : file_(path, [](const std::string& text) { log_warn("{}", text); }) {
  std::ifstream file(path, std::ios::binary);
  if (file.seekg(-1, std::ios::end) && file.get() != '\n') file_.add("\n");
}

RunFolder::RunFolder(const std::string& path, const std::string& config, int64_t step,
                     bool tensorboard) {
  std::error_code error;
  fs::create_directories(path, error);
  FT_CHECK(!error, "{}: the run's folder cannot be made: {}; set run.directory to another place",
           path, error.message());
  events_.emplace(path + "/events.jsonl");  // nothing is changed where it cannot be written
  keep_lines_until(path, "metrics", step);
  write_config(path, config, step);
  if (step > 0) validated_ = sets_validated(path + "/metrics.jsonl", step);
  metrics_.emplace(path + "/metrics.jsonl");
  sync_path(path);  // the files' names
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

void RunFolder::sync() {
  metrics_->sync();
  events_->sync();
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
