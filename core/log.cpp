#include "core/log.h"

#include "core/append_file.h"
#include "core/terminal.h"

#include <poll.h>
#include <unistd.h>

#include <spdlog/details/log_msg_buffer.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace ft {

namespace {

std::FILE* g_lines = stdout;  // or stderr

// Lines, with a status line that stays below them on the terminal of standard output. What belongs
// together is written at once, or the eye would see the line vanish and come back.
class Screen : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit Screen(bool has_file) : has_file_(has_file) {}
  // What was said so far, for a file that is opened later.
  std::vector<spdlog::details::log_msg_buffer> take_early() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return std::exchange(early_, {});
  }
  void status(const std::string& text) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (text.empty() && status_.empty()) return;
    status_ = text;
    put(kClear + status_);
  }

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    if (!has_file_ && early_.size() < kMostEarly) early_.emplace_back(message);
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    const std::string text = fmt::to_string(line);
    if (g_lines == stdout) return put(status_.empty() ? text : kClear + text + status_);
    if (!status_.empty()) put(kClear);
    put(text, g_lines);
    if (!status_.empty()) put(status_);
  }
  void flush_() override { std::fflush(g_lines); }

 private:
  // Lines that the log file has, too, are no loss: they are told of once, and end nothing.
  void put(const std::string& text, std::FILE* to = stdout) {
    std::fwrite(text.data(), 1, text.size(), to);
    if (std::fflush(to) == 0 || !has_file_) return;
    const int why = errno;
    std::clearerr(to);
    if (!std::exchange(told_, true))
      std::fprintf(stderr,
                   "falcon-train: warning: standard output cannot be written (%s); the "
                   "run's log.txt has every line\n",
                   std::strerror(why));
  }
  inline static const std::string kClear = "\r\x1b[2K";
  static constexpr size_t kMostEarly = 1000;  // lines
  std::vector<spdlog::details::log_msg_buffer> early_;
  const bool has_file_;
  bool told_ = false;
  std::string status_;
};

// The run's log file. What is wrong with it is told on standard error alone: here we are in the
// midst of a line.
class LogFile : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit LogFile(const std::string& path)
      : file_(path, [](const std::string& text) {
          std::fprintf(stderr, "falcon-train: warning: %s\n", text.c_str());
        }) {}

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    file_.add({line.data(), line.size()});
  }
  void flush_() override {}

 private:
  AppendFile file_;
};

std::shared_ptr<Screen> g_screen;
std::string g_last_words;  // a file
constexpr const char* kFilePattern = "%Y-%m-%d %H:%M:%S %L %v";

}  // namespace

void log_open(const std::string& file, bool rank0) {
  const auto early =
      g_screen ? g_screen->take_early() : std::vector<spdlog::details::log_msg_buffer>();
  g_screen = std::make_shared<Screen>(!file.empty());
  std::vector<spdlog::sink_ptr> sinks{g_screen};
  sinks[0]->set_pattern("%v");
  if (!file.empty()) {
    sinks.push_back(std::make_shared<LogFile>(file));
    sinks[1]->set_pattern(kFilePattern);
    for (const auto& line : early) sinks[1]->log(line);
  }
  auto logger = std::make_shared<spdlog::logger>("falcon-train", sinks.begin(), sinks.end());
  logger->set_level(rank0 ? spdlog::level::info : spdlog::level::err);
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(logger);
}

void log_to_stderr() { g_lines = stderr; }

void log_line(LogLevel level, const std::string& text) {
  switch (level) {
    case LogLevel::Info:
      spdlog::info("{}", text);
      break;
    case LogLevel::Warn:
      spdlog::warn("warning: {}", text);
      break;
    case LogLevel::Error:
      spdlog::error("error: {}", text);
      break;
  }
}

void log_words_to(const std::string& file) { g_last_words = file; }

void log_last_words(const std::string& text) noexcept try {
  if (g_last_words.empty()) return;
  spdlog::logger logger("last words", std::make_shared<LogFile>(g_last_words));
  logger.set_pattern(kFilePattern);
  logger.error("{}", text);
  logger.flush();
} catch (...) {  // a full disk, say; standard error has it
}

// One that wanted no more, as head: an earlier write may have met it, and its errno is lost.
static bool reader_is_gone(int fd) {
  pollfd pipe{.fd = fd, .events = 0, .revents = 0};
  return ::poll(&pipe, 1, 0) == 1 && (pipe.revents & POLLERR) != 0;
}

bool finish_stdout() {
  errno = 0;
  if (std::fflush(stdout) == 0 && !std::ferror(stdout)) return true;
  if (errno == EPIPE || reader_is_gone(STDOUT_FILENO)) return true;
  std::fprintf(stderr, "falcon-train: standard output could not be written in full: %s\n",
               errno != 0 ? std::strerror(errno) : "a write failed; is the disk full?");
  return false;
}

void log_status(const std::string& text) {
  if (g_screen) g_screen->status(text);
}

}  // namespace ft
