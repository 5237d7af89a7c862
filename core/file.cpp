#include "core/file.h"

#include "core/path.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <optional>
#include <utility>

namespace ft {

namespace fs = std::filesystem;

namespace {

constexpr int kMostLinks = 40;          // as the kernel has it
constexpr size_t kReadPiece = 4 << 20;  // bytes a call
constexpr const char* kMark = ".tmp-";  // NAME.tmp-PID

std::string parent_of(const std::string& path) {
  const std::string parent = fs::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

std::string link_target(const std::string& path) {
  std::error_code error;
  const fs::path to = fs::read_symlink(path, error);
  if (error) path_error(path, "cannot be read", error.value());
  return to.is_absolute() ? to.string() : (fs::path(path).parent_path() / to).string();
}

// The descriptor of ours that a path such as /dev/stdout means, or -1. Opened anew it would have a
// place of its own in the file, and write over what is there.
int own_descriptor(const std::string& path) {
  std::error_code none;
  const fs::path whole(path), folder = fs::canonical(parent_of(path), none);
  const std::string name = whole.filename().string();
  int fd = -1;
  if (none || folder != fmt::format("/proc/{}/fd", ::getpid())) return -1;
  const char* end = name.data() + name.size();
  return std::from_chars(name.data(), end, fd).ptr == end ? fd : -1;
}

// Where an output goes.
struct Target {
  std::string path;  // behind all links
  int own = -1;      // a descriptor to write to
  bool through = false;
  std::optional<struct stat> old;  // of the file that is replaced
};

Target target_of(const std::string& path) {
  Target to{.path = path};
  for (int links = 0; own_descriptor(to.path) < 0 && is_link(to.path); ++links) {
    if (links == kMostLinks) path_error(path, "cannot be written", ELOOP);
    to.path = link_target(to.path);
  }
  to.own = own_descriptor(to.path);
  struct stat info {};
  if (::stat(to.path.c_str(), &info) != 0) {
    if (errno != ENOENT) path_error(path, "cannot be written", errno);
    return to;
  }
  FT_CHECK(!S_ISDIR(info.st_mode), "{}: is a folder; name a file", path);
  to.through = to.own >= 0 || !S_ISREG(info.st_mode);
  to.old = info;
  return to;
}

// A temporary file whose writer lives is locked; where the file system has no locks, it stays.
bool is_stale(const std::string& path, std::string_view pid_text) {
  pid_t pid = 0;
  const char* end = pid_text.data() + pid_text.size();
  const auto [at, error] = std::from_chars(pid_text.data(), end, pid);
  if (error != std::errc() || at != end || pid <= 0) return false;
  if (::kill(pid, 0) == 0 || errno != ESRCH) return false;
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  const bool free = fd >= 0 && ::flock(fd, LOCK_EX | LOCK_NB) == 0;
  if (fd >= 0) ::close(fd);
  return free;
}

std::FILE* open_through(const Target& to) {
  std::fflush(stdout);  // what was printed before comes before
  const int fd = to.own >= 0 ? ::dup(to.own) : ::open(to.path.c_str(), O_WRONLY | O_CLOEXEC);
  return fd < 0 ? nullptr : ::fdopen(fd, "wb");
}

std::FILE* open_beside(const Target& to, const std::string& temporary) {
  std::error_code shown_by_open;
  fs::create_directories(parent_of(to.path), shown_by_open);
  const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
                        to.old ? to.old->st_mode & 0777 : 0666);
  if (fd < 0) return nullptr;
  (void)::flock(fd, LOCK_EX | LOCK_NB);
  if (to.old) {  // where we may
    if (::fchown(fd, to.old->st_uid, to.old->st_gid) == 0) ::fchmod(fd, to.old->st_mode & 07777);
    else ::fchmod(fd, to.old->st_mode & 0777);
  }
  return ::fdopen(fd, "wb");
}

}  // namespace

AtomicFile::AtomicFile(std::string path) : path_(std::move(path)) {
  const Target to = target_of(path_);
  target_ = to.path;
  if (to.through) {
    file_ = open_through(to);
  } else {
    const fs::path target(target_);
    remove_stale_temporaries(parent_of(target_), target.filename().string());
    temporary_ = fmt::format("{}{}{}", target_, kMark, ::getpid());
    file_ = open_beside(to, temporary_);
  }
  FT_CHECK(file_, "{}: cannot be created: {}", path_, std::strerror(errno));
}

AtomicFile::~AtomicFile() {
  if (!file_) return;
  std::fclose(file_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::write(const void* data, size_t bytes) {
  if (bytes == 0) return;  // an empty container's data may be null
  FT_CHECK(std::fwrite(data, 1, bytes, file_) == bytes, "{}: writing failed at byte {}: {}", path_,
           position_, std::strerror(errno));
  position_ += static_cast<int64_t>(bytes);
}

void AtomicFile::commit() {
  const bool through = temporary_.empty();  // devices and FIFOs know no fsync
  FT_CHECK(std::fflush(file_) == 0 && (through || ::fsync(fileno(file_)) == 0),
           "{}: writing failed: {}", path_, std::strerror(errno));
  const bool closed = std::fclose(std::exchange(file_, nullptr)) == 0;
  if (through) {
    FT_CHECK(closed, "{}: writing failed: {}", path_, std::strerror(errno));
    return;
  }
  if (!closed || ::rename(temporary_.c_str(), target_.c_str()) != 0) {
    const std::string why = std::strerror(errno);
    ::unlink(temporary_.c_str());
    throw Error(fmt::format("{}: cannot be put in place: {}", path_, why));
  }
  sync_path(parent_of(target_));
}

void remove_stale_temporaries(const std::string& folder, const std::string& name) try {
  for (const std::string& one : names_in(folder)) {
    const size_t mark = one.rfind(kMark);
    if (mark == std::string::npos || mark == 0 || (!name.empty() && one.substr(0, mark) != name))
      continue;
    const std::string path = folder + "/" + one;
    if (is_stale(path, std::string_view(one).substr(mark + std::strlen(kMark))))
      ::unlink(path.c_str());
  }
} catch (const PathError&) {  // a folder that may be written but not listed, say
}

namespace {

// What cannot be opened at all is a mistake of whoever named it.
template <class Work>
auto as_mistake(const Work& work) {
  try {
    return work();
  } catch (const PathError& error) {
    if (error.exit_code() == 2) throw ConfigError(error.what());
    throw;
  }
}

}  // namespace

std::string read_text(const std::string& path) {
  return as_mistake([&] { return InputFile(path).text(); });
}

void write_text(const std::string& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

void sync_path(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  FT_CHECK(fd >= 0, "{}: cannot be opened: {}", path, std::strerror(errno));
  const int result = ::fsync(fd);
  const int why = errno;
  ::close(fd);
  FT_CHECK(result == 0 || why == EINVAL, "{}: fsync failed: {}", path, std::strerror(why));
}

namespace {

// An open regular file and its size.
int open_regular(const std::string& path, int64_t& size) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) path_error(path, "cannot be opened", errno, 2);
  struct stat info {};
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(fd);
    throw PathError(fmt::format("{}: is not a regular file", path), EINVAL, 2);
  }
  size = info.st_size;
  return fd;
}

}  // namespace

InputFile::InputFile(const std::string& path) : path_(path), fd_(open_regular(path, size_)) {}
InputFile::~InputFile() { ::close(fd_); }

void InputFile::read(int64_t offset, void* to, size_t bytes) const {
  for (size_t done = 0; done < bytes;) {
    const int64_t at = offset + static_cast<int64_t>(done);
    const ssize_t n = ::pread(fd_, static_cast<char*>(to) + done,
                              std::min(bytes - done, kReadPiece), static_cast<off_t>(at));
    if (n < 0 && errno == EINTR) continue;
    const int why = n < 0 ? errno : EIO;
    if (n <= 0)
      throw PathError(fmt::format("{}: cannot be read at byte {}: {}", path_, at,
                                  n < 0 ? std::strerror(why) : "the file became shorter"),
                      why);
    done += static_cast<size_t>(n);
  }
}

std::string InputFile::text() const {
  std::string text(static_cast<size_t>(size_), '\0');
  read(0, text.data(), text.size());
  return text;
}

MappedFile::MappedFile(const std::string& path) : path_(path) {
  const int fd = as_mistake([&] { return open_regular(path, size_); });
  if (size_ > 0) {
    void* memory = ::mmap(nullptr, static_cast<size_t>(size_), PROT_READ, MAP_SHARED, fd, 0);
    const int why = errno;
    ::close(fd);
    FT_CHECK_CONFIG(memory != MAP_FAILED, "{}: cannot be mapped: {}", path, std::strerror(why));
    data_ = static_cast<const uint8_t*>(memory);
  } else {
    ::close(fd);
  }
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(const_cast<uint8_t*>(data_), static_cast<size_t>(size_));
}

MappedFile::MappedFile(MappedFile&& other) noexcept { *this = std::move(other); }

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

}  // namespace ft
