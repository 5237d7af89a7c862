#include "app/train/saver.h"

#include "core/log.h"
#include "parallel/health.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <thread>

namespace ft {

namespace fs = std::filesystem;

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

int64_t bytes_in(const std::string& folder) {
  int64_t bytes = 0;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const auto size = entry.file_size(error);
    if (!error) bytes += static_cast<int64_t>(size);
  }
  return bytes;
}

std::string size_text(int64_t bytes) {
  const double mib = static_cast<double>(bytes) / (1 << 20);
  if (mib >= 1024) return fmt::format("{:.1f} GiB", mib / 1024);
  return fmt::format("{:.{}f} MiB", mib, mib >= 10 ? 0 : 1);
}

}  // namespace

bool Saver::is_due(int64_t step) const {
  return step == retry_at_ || (config_.every > 0 && step % config_.every == 0);
}

std::string Saver::path() const {
  return fmt::format("{}/step-{:08}", directory_, trainer_.steps_done());
}

void Saver::write() {
  const auto begin = Clock::now();
  if (folder_) folder_->sync();  // what a checkpoint builds on is on the disk before it is
  trainer_.save(directory_);
  saved_ = trainer_.steps_done();
  retry_at_ = 0;
  if (!folder_) return;
  const double seconds = seconds_since(begin);
  const int64_t bytes = bytes_in(path());
  log_info("saved {} in {:.1f} s, {}", path(), seconds, size_text(bytes));
  folder_->event("save", saved_,
                 {.texts = {{"path", path()}},
                  .numbers = {{"seconds", seconds}, {"bytes", static_cast<double>(bytes)}}});
  retain();
}

void Saver::retain() {
  try {
    const auto say_once = [this](const std::string& text) {
      if (said_.insert(text).second) log_warn("{}", text);
    };
    for (const std::string& path :
         retain_checkpoints(directory_, config_.keep_last, config_.keep_every, say_once))
      folder_->event("removal", saved_,
                     {.texts = {{"path", path},
                                {"why", fmt::format("checkpoint.keep_last {}, keep_every {}",
                                                    config_.keep_last, config_.keep_every)}}});
  } catch (const std::exception& error) {
    log_error("{}", error.what());
  }
}

void Saver::tell_failure(const std::string& why, const std::string& next) {
  if (!folder_) return;
  log_error("checkpoint of step {} was not saved: {}; {}", trainer_.steps_done(), why, next);
  folder_->event("save_failed", trainer_.steps_done(), {.texts = {{"why", why}, {"next", next}}});
}

void Saver::save(Progress& progress) {
  const Progress::Busy busy(progress, "saving a checkpoint");
  try {
    write();
  } catch (const SharedError& error) {
    retry_at_ = trainer_.steps_done() + std::max<int64_t>(1, config_.every / 10);
    tell_failure(error.what(),
                 fmt::format("older ones stay, the next try is at step {}", retry_at_));
  }
}

void Saver::save_last(Progress& progress) {
  if (saved_ == trainer_.steps_done()) return;
  const Progress::Busy busy(progress, "saving the last checkpoint");
  const auto begin = Clock::now();
  const auto limit = static_cast<double>(config_.retry);
  const double pause = std::clamp(limit / 20, 0.5, 30.0);
  for (bool first = true, asked = false;; first = false) {
    std::string why;
    try {
      return write();
    } catch (const UnfitWeights& error) {
      tell_failure(error.what(), "older ones stay");
      throw;
    } catch (const SharedError& error) {
      why = error.what();
    }
    const double left = limit - all_max(world_.all(), seconds_since(begin));
    if (asked || left <= 0) {
      tell_failure(why, "given up");
      throw SharedError(fmt::format(
          "the last checkpoint, of step {}, could not be saved: {}. What was trained since the one "
          "before is lost; mend that (free room for {} is the usual mend) and start again: the run "
          "goes on from there",
          trainer_.steps_done(), why, directory_));
    }
    if (first) {
      forget_stop_signal();  // one that asks from now on means the waiting
      tell_failure(why,
                   fmt::format("what was trained since the one before is nowhere else. Mend it "
                               "while this process waits (free room for {}): it tries again "
                               "every {:.3g} s for {} more, then the run ends with exit code "
                               "1; a signal ends it after one more try",
                               directory_, pause, duration(left)));
    } else if (folder_) {
      log_error("still not saved: {}; tried for {} more", why, duration(left));
    }
    const auto pause_begin = Clock::now();
    bool over = false;
    while (!over) {
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
      asked = stop_requested(world_.all());
      over = asked || all_max(world_.all(), seconds_since(pause_begin)) >= pause;
    }
  }
}

}  // namespace ft
