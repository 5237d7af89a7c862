// Small fp32 products of padded tiles: panels of 4 x 16 results stay in registers (AVX2: 8 of 16).
// Each result is one chain of fused multiply-adds over k, so its value does not depend on the
// blocking.
#pragma once

#include <algorithm>
#include <cstdint>

namespace ft::cpu {

inline constexpr int64_t kPanel = 16;  // tiles are padded to multiples of this in both directions

inline int64_t padded(int64_t n) { return (n + kPanel - 1) / kPanel * kPanel; }
// An odd number of cache lines, so that a column of panels does not fall into few sets of the
// cache.
inline int64_t tile_stride(int64_t n) { return (padded(n) / kPanel | 1) * kPanel; }

// GCC's and Clang's vector extension; loads and stores need no alignment.
using Lanes [[gnu::vector_size(32), gnu::aligned(4), gnu::may_alias]] = float;

// Element (i, k) of the left factor is data[i * row + k * step]: a transposed factor swaps the two.
struct Left {
  const float* data;
  int64_t row, step;
};

// What is known to be zero or not wanted.
//   LowerResult: columns beyond the row's panel are not wanted
//   LowerLeft:   the left factor is lower triangular;  UpperLeft: upper triangular (a transposed
//   lower one)
enum class Shape { Full, LowerResult, LowerLeft, UpperLeft };

inline void panel(int64_t depth, Left a, const float* b, int64_t b_stride, float* to,
                  int64_t to_stride, bool add) {
  Lanes sum[4][2] = {};
  if (add)
    for (int i = 0; i < 4; ++i)
      for (int l = 0; l < 2; ++l)
        sum[i][l] = *reinterpret_cast<const Lanes*>(to + i * to_stride + 8 * l);
  const float *a0 = a.data, *a1 = a0 + a.row, *a2 = a1 + a.row, *a3 = a2 + a.row;
  for (int64_t k = 0; k < depth; ++k) {
    const Lanes b0 = *reinterpret_cast<const Lanes*>(b),
                b1 = *reinterpret_cast<const Lanes*>(b + 8);
    sum[0][0] += *a0 * b0, sum[0][1] += *a0 * b1;
    sum[1][0] += *a1 * b0, sum[1][1] += *a1 * b1;
    sum[2][0] += *a2 * b0, sum[2][1] += *a2 * b1;
    sum[3][0] += *a3 * b0, sum[3][1] += *a3 * b1;
    a0 += a.step, a1 += a.step, a2 += a.step, a3 += a.step, b += b_stride;
  }
  for (int i = 0; i < 4; ++i)
    for (int l = 0; l < 2; ++l) *reinterpret_cast<Lanes*>(to + i * to_stride + 8 * l) = sum[i][l];
}

// to (+)= a b: [rows, depth] [depth, columns]; all are multiples of kPanel.
template <Shape shape = Shape::Full>
void matmul(int64_t rows, int64_t columns, int64_t depth, Left a, const float* b, int64_t b_stride,
            float* to, int64_t to_stride, bool add) {
  for (int64_t n = 0; n < columns; n += kPanel)
    for (int64_t i = shape == Shape::LowerResult ? n : 0; i < rows; i += 4) {
      const int64_t k0 = shape == Shape::UpperLeft ? i : 0;
      const int64_t k1 = shape == Shape::LowerLeft ? std::min(i + 4, depth) : depth;
      panel(k1 - k0, {a.data + i * a.row + k0 * a.step, a.row, a.step}, b + k0 * b_stride + n,
            b_stride, to + i * to_stride + n, to_stride, add);
    }
}

// to [columns, rows] = from [rows, columns]
inline void transpose(const float* from, int64_t from_stride, int64_t rows, int64_t columns,
                      float* to, int64_t to_stride) {
  for (int64_t i0 = 0; i0 < rows; i0 += 8)
    for (int64_t j = 0; j < columns; ++j)
      for (int64_t i = i0; i < i0 + 8; ++i) to[j * to_stride + i] = from[i * from_stride + j];
}

}  // namespace ft::cpu
