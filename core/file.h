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
// folder. Destroyed without commit(), the temporary file is removed. Throws ft::Error (disk full,
// read-only, ...).
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
  std::string path_, temporary_;
  std::FILE* file_ = nullptr;
  int64_t position_ = 0;
};

std::string read_text(const std::string& path);                   // throws, naming the path
void write_text(const std::string& path, std::string_view text);  // whole or not at all, durable
void sync_path(const std::string& path);                          // fsync of a file or folder

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
