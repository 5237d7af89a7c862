// A file or folder by what it is, whatever it is called.
#pragma once

#include <sys/stat.h>

#include <compare>
#include <optional>
#include <string>

namespace ft {

struct FileId {
  dev_t device = 0;
  ino_t inode = 0;
  auto operator<=>(const FileId&) const = default;  // NOLINT(modernize-use-nullptr): its own code
};

// Links are followed. Nothing where there is no such file, or it cannot be looked at.
inline std::optional<FileId> file_id(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return std::nullopt;
  return FileId{info.st_dev, info.st_ino};
}

}  // namespace ft
