// The instructions of tensor cores that products of bf16 are made of (PTX ISA: ldmatrix, mma.sync).
#pragma once

#include "cuda/common/launch.h"

#include <cstdint>

namespace ft::cuda {

// Four 8 x 8 matrices of bf16; lanes 8 m + r hand in the address of row r of matrix m.
__device__ inline void load_matrices(uint32_t (&to)[4], const bfloat16* row) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(address)
               : "memory");
}
__device__ inline void load_matrices_transposed(uint32_t (&to)[4], const bfloat16* row) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(address)
               : "memory");
}

// sum (16 x 8) += a (16 x 16) b (16 x 8)
__device__ inline void mma_add(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Two numbers as bf16 in a register, the first one low; and back.
__device__ inline uint32_t mma_pair(float first, float second) {
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
}
__device__ inline float mma_low(uint32_t pair) { return __uint_as_float(pair << 16); }
__device__ inline float mma_high(uint32_t pair) { return __uint_as_float(pair & 0xffff0000u); }

}  // namespace ft::cuda
