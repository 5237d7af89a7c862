// A file that grows by whole records for as long as a run lasts.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace ft {

// A disk that is full does not end the run. What cannot be written waits and is written, in order,
// once there is room; beyond 16 MiB of it records are lost and counted. The file holds whole
// records at all times: what was written of one in part is taken back. `warn` hears of the first
// failure and of the way back, once each.
class AppendFile {
 public:
  using Warn = std::function<void(const std::string&)>;
  AppendFile(const std::string& path, Warn warn);  // throws where it cannot be opened
  ~AppendFile();
  AppendFile(AppendFile&&) noexcept;
  AppendFile(const AppendFile&) = delete;
  AppendFile& operator=(const AppendFile&) = delete;
  AppendFile& operator=(AppendFile&&) = delete;

  void add(std::string_view record);
  void sync();  // what was added is on the disk after this, or `warn` hears why not
  const std::string& path() const { return path_; }

 private:
  bool flush();
  std::string path_;
  Warn warn_;
  int fd_ = -1;
  std::string waiting_;  // whole records, but for a first one that could not be taken back
  int64_t lost_ = 0;     // records
  bool failing_ = false;
};

}  // namespace ft
