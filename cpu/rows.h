// load and store of common.h for hot loops over short rows. GCC expands a memcpy of unknown size
// into `rep movs` where it tunes for no processor in particular, which costs more than the row;
// memmove stays a call.
#pragma once

#include "cpu/common.h"

namespace ft::cpu {

inline void load_row(const Tensor& t, int64_t r, int64_t n, float* to) {
  if (t.dtype != Dtype::F32) return load(t, r, n, to);
  std::memmove(to, row<float>(t, r), static_cast<size_t>(n) * sizeof(float));
}
inline void store_row(const Tensor& t, int64_t r, int64_t n, const float* from) {
  if (t.dtype != Dtype::F32) return store(t, r, n, from);
  std::memmove(row<float>(t, r), from, static_cast<size_t>(n) * sizeof(float));
}

}  // namespace ft::cpu
