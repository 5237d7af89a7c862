// Operands of a matrix product, laid out as the kernels of cpu/gemm/micro_kernels.h read them, in fp32.
#pragma once

#include "cpu/common.h"

namespace ft::cpu {

// An operand op(X) by the stride between its rows and whether it is transposed.
template <class E>
struct Operand {
  const E* data;
  int64_t stride;
  bool transposed;
};

using Lanes8 [[gnu::vector_size(32), gnu::aligned(4), gnu::may_alias]] = float;

inline Lanes8 load8(const float* from) { return *reinterpret_cast<const Lanes8*>(from); }
inline Lanes8 load8(const bf16* from) {
  using Short8 [[gnu::vector_size(16), gnu::aligned(2), gnu::may_alias]] = uint16_t;
  using Int8 [[gnu::vector_size(32)]] = uint32_t;
  const Int8 wide = __builtin_convertvector(*reinterpret_cast<const Short8*>(from), Int8) << 16;
  return reinterpret_cast<const Lanes8&>(wide);
}

// The transpose of an 8 x 8 block.
FT_INLINE void transpose8(Lanes8 (&r)[8]) {
  Lanes8 s[8], t[8];
  for (int i = 0; i < 8; i += 2) {
    s[i] = __builtin_shufflevector(r[i], r[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
    s[i + 1] = __builtin_shufflevector(r[i], r[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
  }
  for (int i = 0; i < 8; i += 4)
    for (int j = 0; j < 2; ++j) {
      t[i + 2 * j] = __builtin_shufflevector(s[i + j], s[i + 2 + j], 0, 1, 8, 9, 4, 5, 12, 13);
      t[i + 2 * j + 1] =
          __builtin_shufflevector(s[i + j], s[i + 2 + j], 2, 3, 10, 11, 6, 7, 14, 15);
    }
  for (int i = 0; i < 4; ++i) {
    r[i] = __builtin_shufflevector(t[i], t[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    r[i + 4] = __builtin_shufflevector(t[i], t[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
  }
}

// Rows [k0, k0 + depth) and columns [n0, n0 + count) of op(B), count <= width, as one panel:
// [depth][width], zero beyond count.
template <class E>
void pack_right(const Operand<E>& b, int64_t /*rows*/, int64_t k0, int64_t depth, int64_t n0,
                int64_t count, int64_t width, float* to) {
  if (!b.transposed) {
    const E* from = b.data + k0 * b.stride + n0;
    for (int64_t k = 0; k < depth; ++k, from += b.stride, to += width) {
      int64_t n = 0;
      for (; n + 8 <= count; n += 8) *reinterpret_cast<Lanes8*>(to + n) = load8(from + n);
      for (; n < width; ++n) to[n] = n < count ? to_float(from[n]) : 0.0f;
    }
    return;
  }
  for (int64_t n = 0; n < width; n += 8) {
    const E* from = b.data + (n0 + n) * b.stride + k0;
    int64_t k = 0;
    for (; n + 8 <= count && k + 8 <= depth; k += 8) {
      Lanes8 block[8];
      for (int i = 0; i < 8; ++i) block[i] = load8(from + i * b.stride + k);
      transpose8(block);
      for (int i = 0; i < 8; ++i) *reinterpret_cast<Lanes8*>(to + (k + i) * width + n) = block[i];
    }
    for (; k < depth; ++k)
      for (int64_t i = 0; i < 8; ++i)
        to[k * width + n + i] = n + i < count ? to_float(from[i * b.stride + k]) : 0.0f;
  }
}

// Rows [m0, m0 + rows) and columns [k0, k0 + depth) of op(A) where it is not transposed: rows of
// `stride` floats.
template <class E>
void copy_left(const Operand<E>& a, int64_t /*columns*/, int64_t m0, int64_t rows, int64_t k0,
               int64_t depth, int64_t stride, float* to) {
  for (int64_t m = 0; m < rows; ++m, to += stride) {
    const E* from = a.data + (m0 + m) * a.stride + k0;
    int64_t k = 0;
    for (; k + 8 <= depth; k += 8) *reinterpret_cast<Lanes8*>(to + k) = load8(from + k);
    for (; k < depth; ++k) to[k] = to_float(from[k]);
  }
}

// The same where it is transposed: panels [depth][height], one after another.
template <int height, class E>
void pack_left(const Operand<E>& a, int64_t m0, int64_t rows, int64_t k0, int64_t depth,
               float* to) {
  for (int64_t k = 0; k < depth; ++k) {
    const E* from = a.data + (k0 + k) * a.stride + m0;
    float* line = to + k * height;
    int64_t m = 0;
    // Whole vectors reach into the next line, which is written after this one.
    constexpr int64_t whole = height > 8 ? 16 : 8;
    for (; k + 1 < depth && m + whole <= rows; m += height, line += depth * height)
      for (int i = 0; i < whole; i += 8) *reinterpret_cast<Lanes8*>(line + i) = load8(from + m + i);
    for (; m + height <= rows; m += height, line += depth * height)
      for (int i = 0; i < height; ++i) line[i] = to_float(from[m + i]);
    for (int64_t i = 0; m + i < rows; ++i) line[i] = to_float(from[m + i]);
  }
}

}  // namespace ft::cpu
