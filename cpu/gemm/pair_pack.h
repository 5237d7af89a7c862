// Operands of a matrix product of bf16, laid out as the kernels of cpu/gemm/pair_kernels.h read them:
// neighbours of the inner dimension side by side, zero beyond it and beyond the outer ones.
#pragma once

#include "cpu/gemm/pack.h"
#include "cpu/gemm/pair_kernels.h"

namespace ft::cpu {

using Bf16Operand = Operand<bf16>;

// Both elements of pair k of an operand whose rows follow the inner dimension; `depth`: its length.
inline Pair pair_along(const bf16* row, int64_t k, int64_t depth) {
  const Pair low = 2 * k < depth ? row[2 * k].bits : 0u;
  const Pair high = 2 * k + 1 < depth ? row[2 * k + 1].bits : 0u;
  return low | high << 16;
}
inline Lanes8 pairs_along(const bf16* row, int64_t k) {
  using Eight [[gnu::vector_size(32), gnu::aligned(2), gnu::may_alias]] = float;
  return *reinterpret_cast<const Eight*>(row + 2 * k);
}

// Pairs of two rows of an operand whose rows lie across the inner dimension; `high` may be null.
FT_INLINE void join_rows(const bf16* low, const bf16* high, int64_t count, Pair* to) {
  const auto* l = reinterpret_cast<const uint16_t*>(low);
  const auto* h = reinterpret_cast<const uint16_t*>(high);
  if (!low) std::fill_n(to, count, Pair{0});
  else if (!high)
    for (int64_t i = 0; i < count; ++i) to[i] = l[i];
  else
    for (int64_t i = 0; i < count; ++i) to[i] = l[i] | static_cast<Pair>(h[i]) << 16;
}
inline const bf16* row_or_null(const Bf16Operand& x, int64_t k, int64_t depth, int64_t at) {
  return k < depth ? x.data + k * x.stride + at : nullptr;
}

// Pairs [k0, k0 + count_k) of lines [n0, n0 + count) of an operand whose rows follow the inner
// dimension, transposed: to[k * width + n].
inline void pairs_across(const Bf16Operand& x, int64_t depth, int64_t n0, int64_t count, int64_t k0,
                         int64_t count_k, int64_t width, Pair* to) {
  for (int64_t n = 0; n < width; n += 8) {
    const bf16* from = x.data + (n0 + n) * x.stride;
    int64_t k = 0;
    for (; n + 8 <= count && k + 8 <= count_k && 2 * (k0 + k + 8) <= depth; k += 8) {
      Lanes8 block[8];
      for (int i = 0; i < 8; ++i) block[i] = pairs_along(from + i * x.stride, k0 + k);
      transpose8(block);
      for (int i = 0; i < 8; ++i) *reinterpret_cast<Lanes8*>(to + (k + i) * width + n) = block[i];
    }
    for (; k < count_k; ++k)
      for (int64_t i = 0; i < 8; ++i)
        to[k * width + n + i] =
            n + i < count ? pair_along(from + i * x.stride, k0 + k, depth) : Pair{0};
  }
}

// Pairs [k0, k0 + count_k) and columns [n0, n0 + count) of op(B), count <= width, a multiple of 8,
// as one panel: [count_k][width]. `depth`: rows of op(B).
inline void pack_right(const Bf16Operand& b, int64_t depth, int64_t k0, int64_t count_k, int64_t n0,
                       int64_t count, int64_t width, Pair* to) {
  if (b.transposed) return pairs_across(b, depth, n0, count, k0, count_k, width, to);
  for (int64_t k = 0; k < count_k; ++k, to += width) {
    const int64_t row = 2 * (k0 + k);
    join_rows(row_or_null(b, row, depth, n0), row_or_null(b, row + 1, depth, n0), count, to);
    std::fill(to + count, to + width, Pair{0});
  }
}

// Rows [m0, m0 + rows) and pairs [k0, k0 + count_k), a multiple of 8, of op(A): rows of `stride`
// pairs. `depth`: columns of op(A).
inline void copy_left(const Bf16Operand& a, int64_t depth, int64_t m0, int64_t rows, int64_t k0,
                      int64_t count_k, int64_t stride, Pair* to) {
  if (!a.transposed) {
    for (int64_t m = 0; m < rows; ++m, to += stride) {
      const bf16* from = a.data + (m0 + m) * a.stride;
      const int64_t whole = std::clamp<int64_t>(depth / 2 - k0, 0, count_k);
      std::memcpy(to, from + 2 * k0, static_cast<size_t>(whole) * sizeof(Pair));
      for (int64_t k = whole; k < count_k; ++k) to[k] = pair_along(from, k0 + k, depth);
    }
    return;
  }
  for (int64_t m = 0; m < rows; m += 8) {
    const int64_t height = std::min<int64_t>(8, rows - m);
    for (int64_t k = 0; k < count_k; k += 8) {
      Lanes8 lanes[8];
      for (int64_t i = 0; i < 8; ++i) {
        const int64_t row = 2 * (k0 + k + i);
        const bf16 *low = row_or_null(a, row, depth, m0 + m),
                   *high = row_or_null(a, row + 1, depth, m0 + m);
        Pair joined[8] = {};
        if (height == 8) join_rows(low, high, 8, joined);
        else join_rows(low, high, height, joined);
        lanes[i] = *reinterpret_cast<const Lanes8*>(joined);
      }
      transpose8(lanes);
      for (int64_t i = 0; i < height; ++i)
        *reinterpret_cast<Lanes8*>(to + (m + i) * stride + k) = lanes[i];
    }
  }
}

}  // namespace ft::cpu
