#include "app/run/run_lock.h"

#include "core/check.h"
#include "core/log.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <thread>
#include <utility>

namespace ft {

namespace fs = std::filesystem;

namespace {

constexpr int kSeconds = 5;  // a run that was just killed may still be on its way out

bool make_folder(const std::string& path) {  // whether it was not there
  std::error_code error;
  const bool made = fs::create_directories(path, error);
  FT_CHECK_CONFIG(!error && fs::is_directory(path, error),
                  "{}: the run's folder cannot be made: {}; set run.directory or run.name to a "
                  "place you may write",
                  path, error ? error.message() : "there is something else of that name");
  return made;
}

// For people only: the lock is the kernel's, and goes with the process.
void write_holder(int descriptor, const std::string& file) {
  char host[128] = "";
  ::gethostname(host, sizeof host - 1);
  const std::string text = fmt::format("process {} on {}", ::getpid(), host);
  if (::ftruncate(descriptor, 0) != 0 ||
      ::pwrite(descriptor, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size()))
    log_warn("{}: cannot be written: {}", file, std::strerror(errno));
}

}  // namespace

RunLock::RunLock(const std::string& folder) : folder_(folder), file_(folder + "/.lock") {
  made_ = make_folder(folder);
  while (!take()) made_ = make_folder(folder);
}

// Who had the lock may have moved the folder, or removed it: then the lock in hand is on a file that
// nobody else will look at.
bool RunLock::take() {
  descriptor_ = ::open(file_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (descriptor_ < 0 && errno == ENOENT) return false;
  FT_CHECK_CONFIG(descriptor_ >= 0,
                  "{}: cannot be written: {}; set run.directory to a place you may write", file_,
                  std::strerror(errno));
  for (int tries = 0; ::flock(descriptor_, LOCK_EX | LOCK_NB) != 0; ++tries) {
    if (errno != EWOULDBLOCK && errno != EINTR) {
      log_warn("{}: this file system has no locks ({}); make sure that no other run writes here",
               file_, std::strerror(errno));
      return true;
    }
    if (tries < kSeconds * 10) {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      continue;
    }
    char holder[200] = "";
    const ssize_t n = ::pread(descriptor_, holder, sizeof holder - 1, 0);
    ::close(std::exchange(descriptor_, -1));
    throw ConfigError(fmt::format(
        "{}: another run is at work in this folder ({}); wait for it, end it, or set another "
        "run.name",
        folder_, n > 0 ? holder : "unknown process"));
  }
  struct stat mine {
  }, there{};
  if (::fstat(descriptor_, &mine) != 0 || ::stat(file_.c_str(), &there) != 0 ||
      mine.st_ino != there.st_ino || mine.st_dev != there.st_dev) {
    ::close(std::exchange(descriptor_, -1));
    return false;
  }
  write_holder(descriptor_, file_);
  return true;
}

RunLock::~RunLock() {
  if (descriptor_ < 0) return;
  std::error_code error;
  const auto begin = fs::directory_iterator(folder_, error);
  if (made_ && !error && std::distance(begin, fs::directory_iterator()) == 1) {
    ::unlink(file_.c_str());
    ::rmdir(folder_.c_str());
  }
  ::close(descriptor_);
}

RunLock::RunLock(RunLock&& other) noexcept { *this = std::move(other); }

RunLock& RunLock::operator=(RunLock&& other) noexcept {
  std::swap(folder_, other.folder_);
  std::swap(file_, other.file_);
  std::swap(descriptor_, other.descriptor_);
  std::swap(made_, other.made_);
  return *this;
}

}  // namespace ft
