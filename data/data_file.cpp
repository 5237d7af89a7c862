#include "data/data_file.h"

#include "core/check.h"
#include "core/heartbeat.h"
#include "data/mapped_pages.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <mutex>
#include <optional>

namespace ft {

namespace {

constexpr size_t kOpenFiles = 64;

struct Descriptor {
  int fd;
  explicit Descriptor(int f) : fd(f) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() { ::close(fd); }
};

// What may not change while a file is in use, over closing and opening it again.
struct Shape {
  dev_t device = 0;
  ino_t inode = 0;
  int64_t size = 0;
  bool operator==(const Shape&) const = default;
};

// The descriptors used last, newest first.
std::mutex& recent_mutex() {
  static std::mutex mutex;
  return mutex;
}
std::deque<std::shared_ptr<Descriptor>>& recent() {
  static std::deque<std::shared_ptr<Descriptor>> list;
  return list;
}

}  // namespace

Access access_of(const std::string& name) {
  FT_CHECK_CONFIG(name == "mmap" || name == "pread", "data.read is \"{}\"; expected mmap or pread",
                  name);
  return name == "mmap" ? Access::Map : Access::Read;
}

struct DataFile::Impl {
  std::string path;
  Access access = Access::Map;
  MappedFile mapped;
  std::optional<MappedPages> pages;  // after the mapping: gone before it
  Shape shape;
  std::weak_ptr<Descriptor> descriptor;  // under recent_mutex()

  std::shared_ptr<Descriptor> open(Shape& found) const {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    FT_CHECK_CONFIG(fd >= 0, "{}: cannot be opened: {}", path, std::strerror(errno));
    auto opened = std::make_shared<Descriptor>(fd);
    struct stat info {};
    FT_CHECK_CONFIG(::fstat(fd, &info) == 0 && S_ISREG(info.st_mode), "{}: is not a regular file",
                    path);
    found = {info.st_dev, info.st_ino, info.st_size};
    // Spans are announced one by one: no guessing by the system.
    ::posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
    return opened;
  }

  // The open file; opened again where it was not among those used last.
  std::shared_ptr<Descriptor> use() {
    const std::lock_guard lock(recent_mutex());
    auto& list = recent();
    auto mine = descriptor.lock();
    if (!mine) {
      Shape found;
      mine = open(found);
      FT_CHECK(
          found == shape,
          "{}: was replaced or changed its length ({} bytes at the start, {} now) while it was "
          "in use; bring the old file back and resume from the last checkpoint",
          path, shape.size, found.size);
      descriptor = mine;
    }
    if (list.empty() || list.front() != mine) {
      std::erase(list, mine);
      list.push_front(mine);
      if (list.size() > kOpenFiles) list.pop_back();
    }
    return mine;
  }

  ~Impl() {
    const std::lock_guard lock(recent_mutex());
    if (const auto mine = descriptor.lock()) std::erase(recent(), mine);
  }
};

DataFile::DataFile(const std::string& path, Access access) : impl_(std::make_unique<Impl>()) {
  impl_->path = path;
  impl_->access = access;
  if (access == Access::Map) {
    impl_->mapped = MappedFile(path);
    impl_->shape.size = impl_->mapped.size();
    impl_->pages.emplace(impl_->mapped.data(), impl_->mapped.size());
  } else {
    impl_->open(impl_->shape);
  }
}

DataFile::DataFile() = default;
DataFile::~DataFile() = default;
DataFile::DataFile(DataFile&&) noexcept = default;
DataFile& DataFile::operator=(DataFile&&) noexcept = default;
const std::string& DataFile::path() const { return impl_->path; }
int64_t DataFile::size() const { return impl_->shape.size; }

const uint8_t* DataFile::bytes(int64_t offset, int64_t count, std::vector<uint8_t>& room) const {
  FT_CHECK(offset >= 0 && count >= 0 && offset <= size() && count <= size() - offset,
           "{}: {} bytes at byte {} are beyond its {} bytes", path(), count, offset, size());
  if (impl_->access == Access::Map) {
    impl_->pages->touched(impl_->mapped.data() + offset, count);
    return impl_->mapped.data() + offset;
  }
  if (room.size() < static_cast<size_t>(count)) room.resize(static_cast<size_t>(count));
  const StorageCall call("read", path());
  const auto file = impl_->use();
  for (int64_t done = 0; done < count;) {
    const ssize_t n =
        ::pread(file->fd, room.data() + done, static_cast<size_t>(count - done), offset + done);
    if (n < 0 && errno == EINTR) continue;
    FT_CHECK(n >= 0, "{}: reading failed at byte {}: {}", path(), offset + done,
             std::strerror(errno));
    FT_CHECK(n > 0,
             "{}: ends at byte {} while it is in use; it had {} bytes at the start. Something cut "
             "it short: bring the old file back and resume from the last checkpoint",
             path(), offset + done, size());
    done += n;
  }
  return room.data();
}

const uint8_t* DataFile::mapping() const {
  FT_CHECK(impl_->pages, "{}: is not mapped", path());
  impl_->pages->anywhere();
  return impl_->mapped.data();
}

void DataFile::expect(int64_t offset, int64_t count) const {
  if (impl_->access == Access::Map || count <= 0) return;
  ::posix_fadvise(impl_->use()->fd, offset, count, POSIX_FADV_WILLNEED);
}

}  // namespace ft
