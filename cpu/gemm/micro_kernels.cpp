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

const Panels& avx2_panels() { return avx2::kTable; }

const Panels* avx512_panels() {
  static const bool offered = has_avx512();
  return offered ? &avx512::kTable : nullptr;
}

const Panels& panels() {
  static const Panels& chosen = avx512_panels() ? *avx512_panels() : avx2_panels();
  return chosen;
}

}  // namespace ft::cpu
