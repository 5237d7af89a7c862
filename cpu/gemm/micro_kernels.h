// Small fp32 products whose results stay in registers, for the widest vectors the processor has.
// Each result is one chain of fused multiply-adds over k, so its value does not depend on how a
// product is cut, only on the processor.
#pragma once

#include <algorithm>
#include <cstdint>

namespace ft::cpu {

// Element (i, k) of a left factor is data[i * row + k * step]: a transposed factor swaps the two.
template <class T>
struct LeftOf {
  const T* data;
  int64_t row, step;
};
using Left = LeftOf<float>;

// What is known to be zero or not wanted.
//   LowerResult: columns beyond the row's panel are not wanted
//   LowerLeft:   the left factor is lower triangular;  UpperLeft: upper triangular (a transposed
//   lower one)
enum class Shape { Full, LowerResult, LowerLeft, UpperLeft };

inline constexpr int64_t kPanel = 16;  // tiles are padded to multiples of this in both directions

inline int64_t padded(int64_t n) { return (n + kPanel - 1) / kPanel * kPanel; }
// An odd number of cache lines, so that a column of panels does not fall into few sets of the
// cache.
inline int64_t tile_stride(int64_t n) { return (padded(n) / kPanel | 1) * kPanel; }

// to[i, j] = alpha sum_k a[i, k] b[k, j] + add[i, j] (add may be null, or `to` itself). The rows of
// b lie one after another, each as long as the result is wide.
using Product = void (*)(int64_t depth, Left a, const float* b, float alpha, const float* add,
                         int64_t add_stride, float* to, int64_t to_stride);

// to (+)= a b: [rows, depth] [depth, columns]; columns are a multiple of kPanel, and so are rows
// and depth of a triangle, else rows a multiple of 4.
using Matmul = void (*)(int64_t rows, int64_t columns, int64_t depth, Left a, const float* b,
                        int64_t b_stride, float* to, int64_t to_stride, bool add);

// The kernels of one instruction set.
struct MicroKernels {
  static constexpr int kMostRows = 12;
  int rows, columns;               // of the largest result of `product`
  Product product[kMostRows + 1];  // by number of rows
  Matmul matmul[4];                // by Shape
};

// Of AVX2, which every processor here has; of AVX-512, null where the processor has none; and the
// faster of them.
const MicroKernels& avx2_kernels();
const MicroKernels* avx512_kernels();
const MicroKernels& micro_kernels();
bool has_avx512();  // F, VL, DQ and BW: what kernels for it are compiled for

template <Shape shape = Shape::Full>
void matmul(int64_t rows, int64_t columns, int64_t depth, Left a, const float* b, int64_t b_stride,
            float* to, int64_t to_stride, bool add) {
  micro_kernels().matmul[static_cast<int>(shape)](rows, columns, depth, a, b, b_stride, to,
                                                  to_stride, add);
}

// to [columns, rows] = from [rows, columns]
inline void transpose(const float* from, int64_t from_stride, int64_t rows, int64_t columns,
                      float* to, int64_t to_stride) {
  for (int64_t i0 = 0; i0 < rows; i0 += 8)
    for (int64_t j = 0; j < columns; ++j)
      for (int64_t i = i0; i < i0 + 8; ++i) to[j * to_stride + i] = from[i * from_stride + j];
}

}  // namespace ft::cpu
