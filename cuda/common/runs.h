// Sums in fp64 of runs of kRun elements, then of runs, in orders that depend on sizes only.
#pragma once

#include "core/ops/reduce.h"
#include "cuda/common/vector.h"

namespace ft::cuda {

constexpr int kRunThreads = 256;

// f(x) for n elements of a run, four neighbours at a time for each thread: the order is the same
// whether memory allows for vectors or not.
template <class E, class F>
__device__ inline void each_of_run(const E* x, int64_t n, F&& f) {
  constexpr int N = 4;
  const bool aligned = reinterpret_cast<uintptr_t>(x) % sizeof(Pack<E, N>) == 0;
  for (int64_t i = threadIdx.x * N; i < n; i += kRunThreads * N) {
    if (aligned && i + N <= n) {
      float v[N];
      load(x + i, v);
#pragma unroll
      for (int k = 0; k < N; ++k) f(v[k]);
    } else {
      for (int64_t j = i; j < min(n, i + N); ++j) f(to_float(x[j]));
    }
  }
}
// Every thread of the block has the sum.
template <class E>
__device__ inline double sum_of_run(const E* x, int64_t n, bool squared) {
  double sum = 0;
  each_of_run(x, n, [&](double v) { sum += squared ? v * v : v; });
  return block_sum<kRunThreads>(sum);
}
__device__ inline double sum_of_runs(const double* partial, int64_t n) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < n; i += kRunThreads) sum += partial[i];
  return block_sum<kRunThreads>(sum);
}

}  // namespace ft::cuda
