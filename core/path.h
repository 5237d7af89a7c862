// Questions about paths. Only "no such file" means that nothing is there: a disk or server that
// fails, a right that is missing, too many open files are errors that name the path. Else a run
// would begin anew over one that it cannot see.
#pragma once

#include "core/check.h"

#include <string>
#include <vector>

namespace ft {

// What the system answered; code: its errno.
class PathError : public Error {
 public:
  PathError(const std::string& what, int code, int exit_code = 1)
      : Error(what, exit_code), code_(code) {}
  int code() const { return code_; }
  // Whether it speaks of what lies on the disk, and not of a right, a limit or a server that may be
  // mended from outside.
  bool is_damage() const;

 private:
  int code_;
};

// "PATH: cannot be read: Input/output error"; error: an errno.
[[noreturn]] void path_error(const std::string& path, const char* what, int error,
                             int exit_code = 1);

bool exists(const std::string& path);  // of whatever kind, links followed
bool is_file(const std::string& path);
bool is_folder(const std::string& path);
bool is_link(const std::string& path);
// What a folder holds, in the order of names; nothing where there is no such folder.
std::vector<std::string> names_in(const std::string& folder);

}  // namespace ft
