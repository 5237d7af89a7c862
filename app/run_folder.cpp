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

std::string time_text() {  // UTC, ISO 8601
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  ::gmtime_r(&now, &utc);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text;
}

void write_config(const std::string& path, const std::string& config, int64_t step) {
  const std::string file = path + "/config.yaml";
  if (step > 0 && fs::exists(file) && read_text(file) != config)
    fs::rename(file, fmt::format("{}/config.until-step-{:08}.yaml", path, step));
  write_text(file, config);
}

}  // namespace

LineFile::LineFile(const std::string& path) : path_(path), file_(std::fopen(path.c_str(), "a")) {
  FT_CHECK(file_, "{}: cannot be written: {}", path, std::strerror(errno));
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
  for (const char* name : {"/metrics.jsonl", "/events.jsonl"}) keep_lines_until(path + name, step);
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
  json object = {{"time", time_text()}, {"event", name}, {"step", step}};
  for (const auto& [key, text] : facts.texts) object[key] = text;
  for (const auto& [key, value] : facts.numbers)
    object[key] = std::isfinite(value) ? json(value) : json(nullptr);
  events_->add(object.dump(-1, ' ', false, json::error_handler_t::replace));
}

}  // namespace ft
