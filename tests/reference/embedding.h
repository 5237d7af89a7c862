// Rows of a table and the table's gradient in double.
#pragma once

#include <cstdint>
#include <vector>

namespace ft::reference {

inline std::vector<double> embedding(const std::vector<double>& weight,
                                     const std::vector<int32_t>& ids, int64_t C, double scale) {
  std::vector<double> y;
  for (const int32_t id : ids)
    for (int64_t c = 0; c < C; ++c) y.push_back(scale * weight[id * C + c]);
  return y;
}

// Adds to dweight.
inline void embedding_grad(std::vector<double>& dweight, const std::vector<double>& dy,
                           const std::vector<int32_t>& ids, int64_t C, double scale,
                           int64_t padding_id) {
  for (size_t t = 0; t < ids.size(); ++t)
    for (int64_t c = 0; c < C && ids[t] != padding_id; ++c)
      dweight[ids[t] * C + c] += scale * dy[t * C + c];
}

}  // namespace ft::reference
