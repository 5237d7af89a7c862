#include "cpu/gemm/micro_kernels.h"

#include <utility>

namespace ft::cpu {

namespace avx2 {
constexpr int kLanes = 8, kRows = 6;  // 12 of 16 registers gather results
#include "cpu/gemm/micro_kernels.inc"
}  // namespace avx2

#pragma GCC push_options
#pragma GCC target("avx512f,avx512vl,avx512dq,avx512bw,prefer-vector-width=512")
namespace avx512 {
constexpr int kLanes = 16, kRows = 12;  // 24 of 32
#include "cpu/gemm/micro_kernels.inc"
}  // namespace avx512
#pragma GCC pop_options

bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
}

const MicroKernels& avx2_kernels() { return avx2::kTable; }

const MicroKernels* avx512_kernels() {
  static const bool offered = has_avx512();
  return offered ? &avx512::kTable : nullptr;
}

const MicroKernels& micro_kernels() {
  static const MicroKernels& chosen = avx512_kernels() ? *avx512_kernels() : avx2_kernels();
  return chosen;
}

}  // namespace ft::cpu
