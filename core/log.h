// Lines for people: on the terminal of rank 0 and, once a run is open, in its log file.
#pragma once

#include <fmt/format.h>

#include <string>
#include <utility>

namespace ft {

enum class LogLevel { Info, Warn, Error };

// file: also append to it, first what was said so far (empty: terminal only). Ranks other than 0 stay silent but for errors.
void log_open(const std::string& file, bool rank0);
// Lines go to standard error from now on: standard output is for results that programs read. The
// status line stays where it is.
void log_to_stderr();
void log_line(LogLevel level, const std::string& text);
// The file that the last words of this process go to: what ends it is told on standard error, which
// a batch system may keep elsewhere. Before log_words_to: nowhere.
void log_words_to(const std::string& file);
void log_last_words(const std::string& text) noexcept;
// A line of the terminal that stays below all others and is rewritten in place; empty: none. For
// callers that know that there is a terminal (core/terminal.h); no wider than it.
void log_status(const std::string& text);

// Brings out what was printed on standard output. False where part of it is lost (a full disk), after
// a word on standard error: results that nobody can read are a failure.
bool finish_stdout();

template <class... A>
void log_info(fmt::format_string<A...> format, A&&... a) {
  log_line(LogLevel::Info, fmt::format(format, std::forward<A>(a)...));
}
template <class... A>
void log_warn(fmt::format_string<A...> format, A&&... a) {
  log_line(LogLevel::Warn, fmt::format(format, std::forward<A>(a)...));
}
template <class... A>
void log_error(fmt::format_string<A...> format, A&&... a) {
  log_line(LogLevel::Error, fmt::format(format, std::forward<A>(a)...));
}

}  // namespace ft
