// Products of bf16 for processors that have them, gathered in fp32: AMX tiles or AVX512_BF16.
// These instructions take two neighbours of the inner dimension at a time, a pair.
#pragma once

#include "cpu/gemm/micro_kernels.h"

namespace ft::cpu {

using Pair = uint32_t;  // elements 2k (low half) and 2k + 1 of a row, bf16
using LeftPairs = LeftOf<Pair>;

inline constexpr int64_t kPairUnit = 16;  // depths are multiples of this many pairs: an AMX tile

// The kernels of one instruction set.
struct PairKernels {
  static constexpr int kMostRows = 32;
  int rows, columns;  // of the largest result
  // to[i, j] = alpha sum_k a[i, k] . b[k, j] + add[i, j] for `rows` rows, as Product of micro_kernels.h.
  // The left factor has step 1 and may be read up to row PairKernels::rows.
  void (*product)(int64_t rows, int64_t depth, LeftPairs a, const Pair* b, float alpha,
                  const float* add, int64_t add_stride, float* to, int64_t to_stride);
  // What a thread calls before and after its products.
  void (*enter)();
  void (*leave)();
};

// Those that this processor and its system offer, else null.
const PairKernels* amx_kernels();
const PairKernels* avx512_bf16_kernels();
// The faster of them, null where there is none.
const PairKernels* pair_kernels();

}  // namespace ft::cpu
