// That nobody else writes into a run's folder.
#pragma once

#include <string>

namespace ft {

// A lock on the file .lock inside the folder: the same under every name, link and spelling of the
// folder, and it stays with the folder when that is moved. It ends with the object or the process.
class RunLock {
 public:
  // Makes the folder where there is none. Throws ConfigError where another process has the lock, or
  // nothing can be written there. A file system without locks is warned of.
  explicit RunLock(const std::string& folder);
  ~RunLock();  // a folder that this object made and nobody used is removed again
  RunLock(RunLock&& other) noexcept;
  RunLock& operator=(RunLock&& other) noexcept;

 private:
  bool take();  // false: the file is not the folder's any more

  std::string folder_, file_;
  int descriptor_ = -1;
  bool made_ = false;
};

}  // namespace ft
