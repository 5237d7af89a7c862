#include "core/file.h"

#include "core/check.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

namespace ft {

namespace fs = std::filesystem;

namespace {
std::string parent_of(const std::string& path) {
  const std::string parent = fs::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}
}  // namespace

AtomicFile::AtomicFile(std::string path)
    : path_(std::move(path)), temporary_(fmt::format("{}.tmp-{}", path_, getpid())) {
  std::error_code ignored;
  fs::create_directories(parent_of(path_), ignored);
  file_ = std::fopen(temporary_.c_str(), "wb");
  FT_CHECK(file_, "{}: cannot be created: {}", path_, std::strerror(errno));
}

AtomicFile::~AtomicFile() {
  if (!file_) return;
  std::fclose(file_);
  ::unlink(temporary_.c_str());
}

void AtomicFile::write(const void* data, size_t bytes) {
  if (bytes == 0) return;  // an empty container's data may be null
  FT_CHECK(std::fwrite(data, 1, bytes, file_) == bytes, "{}: writing failed at byte {}: {}", path_,
           position_, std::strerror(errno));
  position_ += static_cast<int64_t>(bytes);
}

void AtomicFile::commit() {
  FT_CHECK(std::fflush(file_) == 0 && ::fsync(fileno(file_)) == 0, "{}: writing failed: {}", path_,
           std::strerror(errno));
  std::fclose(std::exchange(file_, nullptr));
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) {
    const std::string why = std::strerror(errno);
    ::unlink(temporary_.c_str());
    throw Error(fmt::format("{}: cannot be put in place: {}", path_, why));
  }
  sync_path(parent_of(path_));
}

std::string read_text(const std::string& path) {
  const MappedFile file(path);
  return std::string(reinterpret_cast<const char*>(file.data()), static_cast<size_t>(file.size()));
}

void write_text(const std::string& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

void sync_path(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY);
  FT_CHECK(fd >= 0, "{}: cannot be opened: {}", path, std::strerror(errno));
  const int result = ::fsync(fd);
  const int why = errno;
  ::close(fd);
  FT_CHECK(result == 0 || why == EINVAL, "{}: fsync failed: {}", path, std::strerror(why));
}

MappedFile::MappedFile(const std::string& path) : path_(path) {
  const int fd = ::open(path.c_str(), O_RDONLY);
  FT_CHECK_CONFIG(fd >= 0, "{}: cannot be opened: {}", path, std::strerror(errno));
  struct stat info {};
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(fd);
    throw ConfigError(fmt::format("{}: is not a regular file", path));
  }
  size_ = info.st_size;
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
