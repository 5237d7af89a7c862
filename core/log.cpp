#include "core/log.h"

#include "core/terminal.h"

#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/spdlog.h>

#include <cstdio>
#include <memory>
#include <mutex>
#include <vector>

namespace ft {

namespace {

std::FILE* g_lines = stdout;  // or stderr

// Lines, with a status line that stays below them on the terminal of standard output. What belongs
// together is written at once, or the eye would see the line vanish and come back.
class Screen : public spdlog::sinks::base_sink<std::mutex> {
 public:
  void status(const std::string& text) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (text.empty() && status_.empty()) return;
    status_ = text;
    put(kClear + status_);
  }

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
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
  static void put(const std::string& text, std::FILE* to = stdout) {
    std::fwrite(text.data(), 1, text.size(), to);
    std::fflush(to);
  }
  inline static const std::string kClear = "\r\x1b[2K";
  std::string status_;
};

std::shared_ptr<Screen> g_screen;
std::string g_last_words;  // a file
constexpr const char* kFilePattern = "%Y-%m-%d %H:%M:%S %L %v";

}  // namespace

void log_open(const std::string& file, bool rank0) {
  g_screen = std::make_shared<Screen>();
  std::vector<spdlog::sink_ptr> sinks{g_screen};
  sinks[0]->set_pattern("%v");
  if (!file.empty()) {
    sinks.push_back(std::make_shared<spdlog::sinks::basic_file_sink_mt>(file));
    sinks[1]->set_pattern(kFilePattern);
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
  spdlog::logger logger("last words",
                        std::make_shared<spdlog::sinks::basic_file_sink_st>(g_last_words));
  logger.set_pattern(kFilePattern);
  logger.error("{}", text);
  logger.flush();
} catch (...) {  // a full disk, say; standard error has it
}

void log_status(const std::string& text) {
  if (g_screen) g_screen->status(text);
}

}  // namespace ft
