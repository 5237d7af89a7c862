#include "app/run/progress.h"

#include "core/log.h"
#include "core/nan.h"

#include <algorithm>
#include <cmath>

namespace ft {

namespace {

constexpr double kGiB = 1024.0 * 1024 * 1024;

double percent(const StepRecord& r) {
  return 100.0 * static_cast<double>(r.step) / static_cast<double>(std::max<int64_t>(r.steps, 1));
}

std::string gib(int64_t bytes) {
  const double value = static_cast<double>(bytes) / kGiB;
  return value < 10 ? fmt::format("{:.2f}", value) : fmt::format("{:.1f}", value);
}

std::string seconds_text(double s) {
  return s < 1 ? fmt::format("{:.3f}s", s) : fmt::format("{:.2f}s", s);
}

std::string bar(int width, double share, bool colour) {
  const int full = std::clamp(static_cast<int>(std::lround(share * width)), 0, width);
  const std::string done(static_cast<size_t>(full), '#'),
      rest(static_cast<size_t>(width - full), '-');
  return colour ? "[\x1b[32m" + done + "\x1b[0m" + rest + "]" : "[" + done + rest + "]";
}

}  // namespace

std::string step_line(const StepRecord& r) {
  const std::string total = fmt::format("{}", r.steps);
  const std::string mfu = std::isnan(r.mfu) ? "" : fmt::format("  MFU {:.1f}%", 100 * r.mfu);
  const std::string loss =
      r.labels > 0 || !std::isnan(r.loss)
          ? fmt::format("loss {:.4f}  grad {:.2f}", unsigned_nan(r.loss), unsigned_nan(r.grad_norm))
          : "no labels";
  return fmt::format(
      "step {:>{}}/{}  {:.1f}%  {}  lr {:.2e}  {} tok/s{}  step {}  eta {}  mem {}/{} GiB{}",
      r.step, total.size(), total, percent(r), loss, r.lr, rate_text(r.tokens_per_second), mfu,
      seconds_text(r.seconds), duration(r.eta), gib(r.memory_peak), gib(r.memory_total),
      r.skipped ? "  skipped" : "");
}

std::string status_line(const StepRecord& r, const Terminal& terminal) {
  // In order of weight; each is shown in its place where it fits.
  enum { kStep, kPercent, kEta, kLoss, kSpeed, kFields };
  const std::string fields[kFields] = {
      fmt::format("step {}/{}", r.step, r.steps), fmt::format("{:.1f}%", percent(r)),
      fmt::format("eta {}", duration(r.eta)), fmt::format("loss {:.4f}", unsigned_nan(r.loss)),
      fmt::format("{} tok/s", rate_text(r.tokens_per_second))};
  const int room = terminal.columns - 1;
  int used = 0, shown = 0;
  for (; shown < kFields; ++shown) {
    const int width = static_cast<int>(fields[shown].size()) + (shown ? 2 : 0);
    if (used + width > room) break;
    used += width;
  }
  constexpr int kSmallest = 8, kLargest = 40;
  const int width = std::min(room - used - 4, kLargest);  // two spaces, two brackets
  std::string line;
  const auto put = [&](const std::string& text) { line += (line.empty() ? "" : "  ") + text; };
  for (int field : {kStep, kPercent, kLoss, kSpeed, kEta}) {
    if (field < shown) put(fields[field]);
    if (field == kPercent && width >= kSmallest) put(bar(width, percent(r) / 100, terminal.colour));
  }
  return line;
}

void Pace::add(const StepRecord& r) {
  ++steps_;
  recent_ = steps_ <= kWarmUp + 1 ? r.seconds : 0.9 * recent_ + 0.1 * r.seconds;
  if (steps_ <= kWarmUp) return;
  ++counted_;
  seconds_ += r.seconds;
  tokens_ += r.tokens_per_second * r.seconds;
  mfu_ += r.mfu * r.seconds;
}

std::string Pace::summary() const {
  if (steps_ == 0) return "";
  if (counted_ == 0 || seconds_ <= 0)
    return fmt::format("{} step{}, too few for an average", steps_, steps_ == 1 ? "" : "s");
  const double mfu = mfu_ / seconds_;
  return fmt::format("average of {} step{} (the first {} left out): {} tok/s{}, step {}", counted_,
                     counted_ == 1 ? "" : "s", kWarmUp, rate_text(tokens_ / seconds_),
                     std::isnan(mfu) ? "" : fmt::format(", MFU {:.1f}%", 100 * mfu),
                     seconds_text(seconds_ / static_cast<double>(counted_)));
}

Progress::~Progress() { clear(); }

void Progress::clear() {
  log_status("");
  line_.clear();
}

void Progress::show(const StepRecord& r) {
  const auto now = std::chrono::steady_clock::now();
  // Faster than an eye reads, only the terminal would notice.
  if (r.step < r.steps && now - shown_ < std::chrono::milliseconds(100)) return;
  const Terminal t = terminal();
  if (!t.present) return;
  shown_ = now;
  line_ = status_line(r, t);
  log_status(line_);
}

Progress::Busy::Busy(Progress& progress, const std::string& what) : progress_(progress) {
  if (progress_.line_.empty()) return;  // no terminal, or no step yet
  log_status(what.substr(0, static_cast<size_t>(std::max(terminal().columns - 1, 0))));
}
Progress::Busy::~Busy() { log_status(progress_.line_); }

}  // namespace ft
