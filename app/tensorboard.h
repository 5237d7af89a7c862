// TensorBoard's event files: records of TFRecord (length, masked crc32c, bytes, masked crc32c),
// each an Event protocol buffer. Only what scalars need is encoded, by hand.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ft {

uint32_t crc32c(std::string_view bytes);  // Castagnoli

// Appends to a new file of its own in `folder`, which is made. Files of earlier starts stay;
// TensorBoard reads them in the order of their names, and the first record of this one tells it to
// forget what they say of steps from `first_step` on. Throws where the folder cannot be written.
class EventFile {
 public:
  using Scalars = std::vector<std::pair<std::string, double>>;  // tag, value

  EventFile(const std::string& folder, int64_t first_step);
  ~EventFile();
  EventFile(const EventFile&) = delete;
  EventFile& operator=(const EventFile&) = delete;

  void add(int64_t step, const Scalars& scalars);
  const std::string& path() const { return path_; }

 private:
  void record(const std::string& event);
  std::string path_;
  std::FILE* file_ = nullptr;
};

}  // namespace ft
