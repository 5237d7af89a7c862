// All of this may run in a signal handler: only calls that POSIX allows there, no allocation.
#include "core/mapping_fault.h"

#include "core/heartbeat.h"

#include <fcntl.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <cstring>

namespace ft {

namespace {

// The lines of /proc/self/maps, one at a time; a longer line is cut.
class MapLines {
 public:
  MapLines() : fd_(::open("/proc/self/maps", O_RDONLY | O_CLOEXEC)) {}
  ~MapLines() {
    if (fd_ >= 0) ::close(fd_);
  }
  const char* next() {
    size_t n = 0;
    for (;;) {
      if (at_ == size_) {
        const ssize_t got = fd_ >= 0 ? ::read(fd_, buffer_, sizeof buffer_) : 0;
        if (got <= 0) return nullptr;
        size_ = static_cast<size_t>(got), at_ = 0;
      }
      const char c = buffer_[at_++];
      if (c == '\n') break;
      if (n + 1 < sizeof line_) line_[n++] = c;
    }
    line_[n] = 0;
    return line_;
  }

 private:
  int fd_;
  char buffer_[4096], line_[4500];
  size_t at_ = 0, size_ = 0;
};

uint64_t hex(const char*& text) {
  uint64_t value = 0;
  for (;; ++text) {
    if (*text >= '0' && *text <= '9') value = value << 4 | static_cast<uint64_t>(*text - '0');
    else if (*text >= 'a' && *text <= 'f')
      value = value << 4 | static_cast<uint64_t>(*text - 'a' + 10);
    else return value;
  }
}

void say(const char* text, size_t n) {
  while (n > 0) {
    const ssize_t done = ::write(STDERR_FILENO, text, n);
    if (done <= 0) return;
    text += done, n -= static_cast<size_t>(done);
  }
}
void say(const char* text) { say(text, std::strlen(text)); }

void say_number(uint64_t value) {
  char digits[24];
  size_t at = sizeof digits;
  do digits[--at] = static_cast<char>('0' + value % 10), value /= 10;
  while (value > 0);
  say(digits + at, sizeof digits - at);
}

void on_fault(int, siginfo_t* info, void*) {
  const auto address = reinterpret_cast<uint64_t>(info->si_addr);
  MapLines lines;
  // begin-end rights offset device inode path
  while (const char* line = lines.next()) {
    const uint64_t begin = hex(line);
    ++line;
    const uint64_t end = hex(line);
    const char* path = std::strchr(line, '/');
    if (address < begin || address >= end || !path) continue;
    line = std::strchr(line + 1, ' ');  // after the rights
    ++line;
    const uint64_t offset = hex(line) + (address - begin);
    if (!heartbeat::claim_word()) {  // another rank tells of it and ends us
      ::sleep(2);
      ::_exit(1);
    }
    say("falcon-train: ");
    say(path);
    say(": cannot be read at byte ");
    say_number(offset);
    say(" any more: the file became shorter while it was in use, or its disk or server failed. "
        "Bring the file back and resume from the last checkpoint\n");
    if (!heartbeat::is_alone()) ::sleep(1);  // the others are to find the word taken
    ::_exit(1);
  }
  // Not ours: the instruction runs again and the system does what it does by default.
  ::signal(SIGBUS, SIG_DFL);
}

}  // namespace

void explain_mapping_faults() {
  struct sigaction action {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO;
  sigemptyset(&action.sa_mask);
  ::sigaction(SIGBUS, &action, nullptr);
}

}  // namespace ft
