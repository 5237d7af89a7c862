#include "app/run_folder.h"

#include "core/check.h"
#include "core/file.h"

#include <nlohmann/json.hpp>

#include <cmath>
#include <filesystem>
#include <fstream>

namespace ft {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

json number(double value) {
  return std::isfinite(value) ? json(value) : json(nullptr);
}  // strict JSON has no NaN

// The lines of a metrics file up to and with `step`.
std::string lines_until(const std::string& path, int64_t step) {
  std::ifstream file(path);
  std::string kept, line;
  while (std::getline(file, line)) {
    const json object = json::parse(line, nullptr, false);
    if (object.is_object() && object.value("step", int64_t{0}) <= step) kept += line + "\n";
  }
  return kept;
}

}  // namespace

std::string duration(double seconds) {
  const auto s = static_cast<int64_t>(std::max(0.0, seconds));
  if (s >= 3600) return fmt::format("{}h{:02}m", s / 3600, s / 60 % 60);
  return s >= 60 ? fmt::format("{}m{:02}s", s / 60, s % 60) : fmt::format("{}s", s);
}

std::string step_line(const StepRecord& r) {
  const double rate = r.tokens_per_second;
  const std::string speed = rate >= 1e6   ? fmt::format("{:.2f}M", rate * 1e-6)
                            : rate >= 1e4 ? fmt::format("{:.1f}k", rate * 1e-3)
                                          : fmt::format("{:.0f}", rate);
  constexpr double kGiB = 1024.0 * 1024 * 1024;
  return fmt::format(
      "step {:>5}/{}  {:.1f}%  loss {:.4f}  grad {:.2f}  lr {:.2e}  {} tok/s  step {:.2f}s  eta {} "
      " "
      "mem {:.2f}/{:.1f} GiB{}",
      r.step, r.steps, 100.0 * static_cast<double>(r.step) / static_cast<double>(r.steps), r.loss,
      r.grad_norm, r.lr, speed, r.seconds, duration(r.eta), static_cast<double>(r.memory) / kGiB,
      static_cast<double>(r.memory_total) / kGiB, r.skipped ? "  left out" : "");
}

RunFolder::RunFolder(const std::string& path, const std::string& config, int64_t step)
    : metrics_path_(path + "/metrics.jsonl") {
  fs::create_directories(path);
  write_text(path + "/config.yaml", config);
  write_text(metrics_path_, step > 0 ? lines_until(metrics_path_, step) : "");
  metrics_ = std::fopen(metrics_path_.c_str(), "a");
  FT_CHECK(metrics_, "{}: cannot be written; is the disk full or read-only?", metrics_path_);
}

RunFolder::~RunFolder() { std::fclose(metrics_); }

void RunFolder::line(const std::string& text) {
  std::fputs((text + "\n").c_str(), metrics_);
  std::fflush(metrics_);
}

void RunFolder::add(const StepRecord& r) {
  json object = {{"step", r.step},
                 {"tokens", r.tokens},
                 {"loss", number(r.loss)},
                 {"grad_norm", number(r.grad_norm)},
                 {"lr", r.lr},
                 {"step_seconds", r.seconds},
                 {"tokens_per_second", r.tokens_per_second},
                 {"memory_bytes", r.memory},
                 {"skipped", r.skipped},
                 {"source_tokens", r.per_source},
                 {"source_epochs", r.epochs}};
  line(object.dump());
}

void RunFolder::add_validation(int64_t step, const std::string& set, double loss, int64_t tokens) {
  line(
      json{{"step", step}, {"validation", set}, {"loss", number(loss)}, {"tokens", tokens}}.dump());
}

}  // namespace ft
