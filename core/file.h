// Files that appear whole or not at all, and small helpers around them. All errors name the path.
#pragma once

#include <cstdint>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace ft {

// Writes into a temporary file beside `path`; commit() flushes, fsyncs, renames and fsyncs the
// folder. Destroyed without commit(), the temporary file is removed; one that a killed process left
// beside the same path is removed first. Links are followed: the file at their end is replaced, and
// keeps its permissions. What exists and is no regular file (a device, a FIFO, /dev/stdout) is
// written through as it is; a folder is refused. Throws ft::Error (disk full, read-only, ...).
class AtomicFile {
 public:
  explicit AtomicFile(std::string path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  void write(const void* data, size_t bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }
  int64_t position() const { return position_; }
  void commit();

 private:
  std::string path_, target_;  // as it was named; what is replaced
  std::string temporary_;      // empty: written through
  std::FILE* file_ = nullptr;
  int64_t position_ = 0;
};

// Removes what killed processes of this machine left of AtomicFiles in `folder`: NAME.tmp-PID, any
// NAME if it is empty. What cannot be removed stays.
void remove_stale_temporaries(const std::string& folder, const std::string& name = "");

std::string read_text(const std::string& path);                   // throws, naming the path
void write_text(const std::string& path, std::string_view text);  // whole or not at all, durable
void sync_path(const std::string& path);                          // fsync of a file or folder

// A regular file that is read piece by piece. Unlike in a mapping, bytes that the disk does not give
// are an error that can be caught.
class InputFile {
 public:
  explicit InputFile(const std::string& path);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;
  int64_t size() const { return size_; }                    // when it was opened
  void read(int64_t offset, void* to, size_t bytes) const;  // all of them, or throws
  std::string text() const;                                 // all of it

 private:
  std::string path_;
  int64_t size_ = 0;
  int fd_ = -1;  // opened last: that tells the size
};

// Read-only mapping of a file; empty files map to null.
class MappedFile {
 public:
  MappedFile() = default;
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(MappedFile&&) noexcept;
  MappedFile& operator=(MappedFile&&) noexcept;
  const uint8_t* data() const { return data_; }
  int64_t size() const { return size_; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  const uint8_t* data_ = nullptr;
  int64_t size_ = 0;
};

}  // namespace ft
