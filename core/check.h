// Errors. FT_CHECK is for what a user, a file or a machine can cause; asserts are for us.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>

namespace ft {

// An error with the process exit code it leads to: 1 = failed at work, 2 = bad usage or
// configuration.
class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& what, int exit_code = 1)
      : std::runtime_error(what), exit_code_(exit_code) {}
  int exit_code() const { return exit_code_; }

 private:
  int exit_code_;
};

// A mistake in usage, configuration or input that is found before the first step.
class ConfigError : public Error {
 public:
  explicit ConfigError(const std::string& what) : Error(what, 2) {}
};

// What all ranks throw together, each knowing of the others: one of them speaks for all, and the
// job ends in order.
class SharedError : public Error {
 public:
  using Error::Error;
};

}  // namespace ft

// FT_CHECK(cond, "what is wrong and how to mend it: {}", value): throws ft::Error.
#define FT_CHECK(cond, ...)                                   \
  do {                                                        \
    if (!(cond)) throw ::ft::Error(fmt::format(__VA_ARGS__)); \
  } while (false)

// The same for what is found before the first step (exit code 2).
#define FT_CHECK_CONFIG(cond, ...)                                  \
  do {                                                              \
    if (!(cond)) throw ::ft::ConfigError(fmt::format(__VA_ARGS__)); \
  } while (false)
