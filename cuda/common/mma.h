// The instructions of sm_80 and newer that C++ has no name for: matrix products of a warp, their
// fragments from shared memory, copies that run in the background. Numbers of lanes and registers
// are those of the PTX manual, "Matrix Fragments for mma.m16n8k16".
#pragma once

#include "cuda/common/launch.h"

#include <cstdint>

namespace ft::cuda {

// Where something lies in shared memory.
using Shared = uint32_t;
__device__ inline Shared shared(const void* x) {
  return static_cast<Shared>(__cvta_generic_to_shared(x));
}

// 16 or 4 bytes to shared memory, zeros unless `there`; `from` must be readable memory either way.
__device__ inline void copy_16(void* to, const void* from, bool there) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared(to)), "l"(from),
               "r"(there ? 16 : 0)
               : "memory");
}
__device__ inline void copy_4(void* to, const void* from, bool there) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;\n" ::"r"(shared(to)), "l"(from),
               "r"(there ? 4 : 0)
               : "memory");
}
__device__ inline void close_copies() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }
// Until all but the last kOpen groups of this thread's copies have arrived.
template <int kOpen>
__device__ void await_copies() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kOpen) : "memory");
}

// Four 8x8 matrices; lane 8 m + r names row r of matrix m.
__device__ inline void load_matrices(uint32_t (&x)[4], Shared row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
               : "r"(row)
               : "memory");
}
__device__ inline void load_transposed_matrices(uint32_t (&x)[4], Shared row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
               : "r"(row)
               : "memory");
}

// sum [16, 8] += a [16, 16] b [16, 8]
__device__ inline void add_product(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0,
                                   uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};\n"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// 2^x to 2 units in the last place; 0 for -infinity
__device__ inline float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(y) : "f"(x));
  return y;
}

// Rounded to bf16, low in the lower half; and back.
__device__ inline uint32_t pack_bf16(float low, float high) {
  uint32_t x;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;\n" : "=r"(x) : "f"(high), "f"(low));
  return x;
}
__device__ inline float low_of(uint32_t pair) { return __uint_as_float(pair << 16); }
__device__ inline float high_of(uint32_t pair) { return __uint_as_float(pair & 0xffff0000u); }

}  // namespace ft::cuda
