#include "core/path.h"

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

namespace ft {

namespace {

// The kind of what a path names, as in st_mode; 0: nothing is there.
mode_t kind_of(const std::string& path, bool follow) {
  struct stat info {};
  if ((follow ? ::stat(path.c_str(), &info) : ::lstat(path.c_str(), &info)) == 0)
    return info.st_mode & S_IFMT;
  if (errno != ENOENT && errno != ENOTDIR) path_error(path, "cannot be looked at", errno);
  return 0;
}

}  // namespace

bool PathError::is_damage() const {
  switch (code_) {
    case EIO:
    case ENOENT:
    case ENOTDIR:
    case EISDIR:
    case ELOOP:
    case ENODATA:
    case EBADMSG:
    case EUCLEAN:
    case EINVAL:
      return true;
    default:
      return false;
  }
}

void path_error(const std::string& path, const char* what, int error, int exit_code) {
  throw PathError(fmt::format("{}: {}: {}", path, what, std::strerror(error)), error, exit_code);
}

bool exists(const std::string& path) { return kind_of(path, true) != 0; }
bool is_file(const std::string& path) { return kind_of(path, true) == S_IFREG; }
bool is_folder(const std::string& path) { return kind_of(path, true) == S_IFDIR; }
bool is_link(const std::string& path) { return kind_of(path, false) == S_IFLNK; }

std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> names;
  const std::unique_ptr<DIR, int (*)(DIR*)> open(::opendir(folder.c_str()), ::closedir);
  if (!open) {
    if (errno == ENOENT) return names;
    path_error(folder, "cannot be listed", errno);
  }
  for (errno = 0; const dirent* entry = ::readdir(open.get()); errno = 0) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  if (errno != 0) path_error(folder, "cannot be listed", errno);
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace ft
