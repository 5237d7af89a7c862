#include "core/append_file.h"

#include "core/path.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace ft {

namespace {
constexpr size_t kMostWaiting = 16 << 20;  // bytes
}

AppendFile::AppendFile(const std::string& path, Warn warn)
    : path_(path),
      warn_(std::move(warn)),
      fd_(::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666)) {
  if (fd_ < 0) path_error(path, "cannot be written", errno);
}

AppendFile::~AppendFile() {
  if (fd_ < 0) return;
  if (!flush())
    warn_(fmt::format("{}: cannot be written ({}); its last {} bytes and {} records are missing",
                      path_, std::strerror(errno), waiting_.size(), lost_));
  ::close(fd_);
}

AppendFile::AppendFile(AppendFile&& other) noexcept
    : path_(std::move(other.path_)),
      warn_(std::move(other.warn_)),
      fd_(std::exchange(other.fd_, -1)),
      waiting_(std::move(other.waiting_)),
      lost_(other.lost_),
      failing_(other.failing_) {}

// Writes what waits; false where the disk does not take all of it.
bool AppendFile::flush() {
  size_t done = 0;
  int why = 0;
  while (done < waiting_.size() && why == 0) {
    const ssize_t n = ::write(fd_, waiting_.data() + done, waiting_.size() - done);
    if (n > 0) done += static_cast<size_t>(n);
    else if (n == 0 || errno != EINTR) why = n == 0 ? ENOSPC : errno;
  }
  errno = why;
  if (why == 0) {
    waiting_.clear();
    return true;
  }
  // Behind an append the descriptor stands at the file's end. Where the part cannot be taken back,
  // its rest comes first the next time.
  const off_t end = done > 0 ? ::lseek(fd_, 0, SEEK_CUR) : 0;
  if (done > 0 && (end < 0 || ::ftruncate(fd_, end - static_cast<off_t>(done)) != 0))
    waiting_.erase(0, done);
  errno = why;
  return false;
}

void AppendFile::add(std::string_view record) {
  if (waiting_.size() + record.size() <= kMostWaiting) waiting_ += record;
  else ++lost_;
  if (flush()) {
    if (std::exchange(failing_, false))
      warn_(lost_ == 0 ? fmt::format("{}: is written again; nothing of it is missing", path_)
                       : fmt::format("{}: is written again; {} records are missing", path_,
                                     std::exchange(lost_, 0)));
  } else if (!std::exchange(failing_, true)) {
    warn_(fmt::format("{}: cannot be written ({}); it is tried again with every record", path_,
                      std::strerror(errno)));
  }
}

void AppendFile::sync() {
  add("");
  if (!failing_ && ::fsync(fd_) != 0 && errno != EINVAL)
    warn_(fmt::format("{}: cannot be brought to the disk: {}", path_, std::strerror(errno)));
}

}  // namespace ft
