// What the norms share: blocks of rows whose gradients of w are summed in shared memory.
#pragma once

#include "cuda/common/vector.h"

namespace ft::cuda {

constexpr int64_t kNormRows = 16;  // tokens of a partial sum of dw

// f(pack, threads of a block) for rows of so many columns, as integral constants.
template <class F>
void with_row(int64_t cols, bool aligned, F&& f) {
  with_pack(aligned, [&](auto pack) {
    if (cols <= 2048) f(pack, std::integral_constant<int, 128>{});
    else f(pack, std::integral_constant<int, 256>{});
  });
}

// Sums of so many columns in shared memory, or in the workspace where they are too many: a limit
// of its own, so that the same shape is summed alike on any card.
struct SumsPlan {
  static constexpr int64_t kMost = 96 * 1024;
  static constexpr int64_t kStatic = 1024;  // beside what the sums over a block use
  bool shared;
  int64_t bytes;
  explicit SumsPlan(int64_t cols)
      : shared(cols * static_cast<int64_t>(sizeof(float)) <= kMost),
        bytes(shared ? cols * static_cast<int64_t>(sizeof(float)) : 0) {}
};
inline int64_t norm_partials(const Tensor& x) { return blocks_of(x.rows(), kNormRows) * x.cols(); }

// Sums lie as [N][cols / N], so that neighbouring threads touch neighbouring words; each thread
// owns those of its packs.
template <int N, int kThreads>
__device__ inline void clear_sums(float* sums, int64_t cols) {
  const int64_t packs = cols / N;
  for (int64_t p = threadIdx.x; p < packs; p += kThreads)
#pragma unroll
    for (int i = 0; i < N; ++i) sums[i * packs + p] = 0;
}
template <int N, int kThreads>
__device__ inline void copy_sums(const float* sums, float* to, int64_t cols) {
  const int64_t packs = cols / N;
  for (int64_t p = threadIdx.x; p < packs; p += kThreads)
#pragma unroll
    for (int i = 0; i < N; ++i) to[p * N + i] = sums[i * packs + p];
}

}  // namespace ft::cuda
