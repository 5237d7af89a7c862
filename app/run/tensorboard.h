// TensorBoard's event files: records of TFRecord (length, masked crc32c, bytes, masked crc32c),
// each an Event protocol buffer. Only what scalars need is encoded, by hand.
#pragma once

#include "core/append_file.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ft {

uint32_t crc32c(std::string_view bytes);  // Castagnoli

// Appends to a new file of its own in `folder`, which is made. Files of earlier starts stay;
// TensorBoard reads them in the order of their names, and the first record of this one tells it to
// forget what they say of steps from `first_step` on. Throws where the folder cannot be written; a
// disk that is full later tears no record (core/append_file.h).
class EventFile {
 public:
  using Scalars = std::vector<std::pair<std::string, double>>;  // tag, value

  EventFile(const std::string& folder, int64_t first_step);
  void add(int64_t step, const Scalars& scalars);
  const std::string& path() const { return file_.path(); }

 private:
  void record(const std::string& event);
  AppendFile file_;
};

}  // namespace ft
