// Boxes of a checkpoint's tensors as the tests look at them.
#pragma once

#include "parallel/checkpoint/checkpoint.h"

#include <algorithm>
#include <string>

namespace ft::test {

// Fills rows of `cols` values that lie `pitch` apart.
inline void read_box(const Checkpoint& checkpoint, const std::string& name,
                     const Checkpoint::Box& box, float* to, int64_t pitch = 0) {
  const int64_t step = pitch ? pitch : box.cols;
  checkpoint.read(name, box, [&](const Checkpoint::Box& part, const float* values, int64_t from) {
    for (int64_t r = 0; r < part.rows; ++r)
      std::copy_n(values + r * from, part.cols, to + (part.row + r) * step + part.col);
  });
}

}  // namespace ft::test
