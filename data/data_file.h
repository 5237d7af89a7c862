// A data file that is mapped, or read piece by piece. Local disks are best mapped; parallel file
// systems (Lustre, GPFS, NFS) fetch a mapping page by page, so reading whole spans is faster there.
#pragma once

#include "core/file.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace ft {

enum class Access { Map, Read };
Access access_of(const std::string& name);  // "mmap" or "pread"; throws ConfigError

// Read-only. A mapped file holds no descriptor; of all files that are read, the 64 used last keep
// theirs, so any number of files may be in use. Safe to use from several threads.
class DataFile {
 public:
  DataFile();
  explicit DataFile(const std::string& path, Access access = Access::Map);  // throws ConfigError
  ~DataFile();
  DataFile(DataFile&&) noexcept;
  DataFile& operator=(DataFile&&) noexcept;

  const std::string& path() const;
  int64_t size() const;
  // Bytes [offset, offset + count), which must lie inside the file: in the mapping, or read into
  // `room`. Throws ft::Error where the file became shorter or was replaced.
  const uint8_t* bytes(int64_t offset, int64_t count, std::vector<uint8_t>& room) const;
  const uint8_t* mapping() const;  // all of a mapped file, for reading here and there
  // These bytes are wanted soon: the system may fetch them meanwhile. Nothing for a mapped file,
  // where the call would cost more than it gains.
  void expect(int64_t offset, int64_t count) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace ft
