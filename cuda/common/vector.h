// Runs of neighbouring elements moved at once, and column sums of partial rows. For .cu files.
#pragma once

#include "cuda/common/launch.h"

namespace ft::cuda {

// The widest word that moves `bytes` at once.
template <int kBytes>
using Word = std::conditional_t<kBytes % 16 == 0, uint4,
                                std::conditional_t<kBytes % 8 == 0, uint2, unsigned>>;

// N elements, as fp32; with N > 1 at an address that is a multiple of the word's size.
template <int N, class E>
__device__ inline void load(const E* from, float (&to)[N]) {
  if constexpr (N == 1) {
    to[0] = to_float(*from);
  } else {
    using W = Word<N * sizeof(E)>;
    constexpr int kEach = sizeof(W) / sizeof(E);
#pragma unroll
    for (int k = 0; k < N / kEach; ++k) {
      const W word = reinterpret_cast<const W*>(from)[k];
#pragma unroll
      for (int j = 0; j < kEach; ++j)
        to[k * kEach + j] = to_float(reinterpret_cast<const E*>(&word)[j]);
    }
  }
}
template <int N, class E>
__device__ inline void store(E* to, const float (&from)[N]) {
  if constexpr (N == 1) {
    *to = from_float<E>(from[0]);
  } else {
    using W = Word<N * sizeof(E)>;
    constexpr int kEach = sizeof(W) / sizeof(E);
#pragma unroll
    for (int k = 0; k < N / kEach; ++k) {
      W word;
#pragma unroll
      for (int j = 0; j < kEach; ++j)
        reinterpret_cast<E*>(&word)[j] = from_float<E>(from[k * kEach + j]);
      reinterpret_cast<W*>(to)[k] = word;
    }
  }
}

// Whether every row of a tensor begins at a multiple of 16 bytes.
inline bool aligned(const Tensor& t) {
  const int64_t row = t.dims > 1 ? t.stride[0] * size_of(t.dtype) : 0;
  return reinterpret_cast<uintptr_t>(t.data) % 16 == 0 && row % 16 == 0;
}

// f(column, integral_constant<int, N>) for each of this thread's runs of N neighbouring columns: N
// is kPack, then 1 for those that fill no pack. A thread of kThreads gets the same each time.
template <int kPack, int kThreads, class F>
__device__ inline void each_pack(int64_t columns, F&& f) {
  const int64_t whole = columns / kPack * kPack;
  for (int64_t c = static_cast<int64_t>(threadIdx.x) * kPack; c < whole; c += kThreads * kPack)
    f(c, std::integral_constant<int, kPack>{});
  if constexpr (kPack > 1)
    for (int64_t c = whole + threadIdx.x; c < columns; c += kThreads)
      f(c, std::integral_constant<int, 1>{});
}

// ---- sums of partial rows -----------------------------------------------------------------------

constexpr int kFoldColumns = 32, kFoldSlices = 32;

// put(column, sum of a column of [rows][columns]): slices of neighbouring rows, each in order, then
// the slices in order.
template <class Put>
__global__ void __launch_bounds__(kFoldColumns* kFoldSlices)
    fold_rows(const float* partial, int64_t rows, int64_t columns, Put put) {
  __shared__ double parts[kFoldSlices][kFoldColumns];
  const int64_t c = static_cast<int64_t>(blockIdx.x) * kFoldColumns + threadIdx.x;
  const int64_t slice = blocks_of<int64_t>(rows, kFoldSlices), begin = threadIdx.y * slice,
                end = begin + slice < rows ? begin + slice : rows;
  double sum = 0;
  if (c < columns)
#pragma unroll 8
    for (int64_t r = begin; r < end; ++r) sum += partial[r * columns + c];
  parts[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || c >= columns) return;
  for (int s = 1; s < kFoldSlices; ++s) sum += parts[s][threadIdx.x];
  put(c, sum);
}
template <class Put>
void fold(const float* partial, int64_t rows, int64_t columns, const Put& put, Stream stream) {
  if (columns == 0) return;
  const auto blocks = static_cast<unsigned>(blocks_of<int64_t>(columns, kFoldColumns));
  fold_rows<<<blocks, dim3(kFoldColumns, kFoldSlices), 0, stream_of(stream)>>>(partial, rows,
                                                                               columns, put);
  launched("fold");
}

// Into a gradient, in place.
struct PutGradient {
  float* to;
  bool accumulate;
  __device__ void operator()(int64_t c, double sum) const {
    to[c] = static_cast<float>(accumulate ? to[c] + sum : sum);
  }
};

// ---- norms --------------------------------------------------------------------------------------

// Rows whose column sums a block keeps to itself; by the shape only.
inline int64_t rows_per_block(int64_t rows) {
  return std::clamp<int64_t>(blocks_of<int64_t>(rows, 1024), 8, 64);
}

// Column sums of a block lie in shared memory up to this many, else in their partial row.
constexpr int64_t kSharedSums = 11 * 1024;
inline int64_t shared_sums(int64_t columns) {
  return columns <= kSharedSums ? columns * static_cast<int64_t>(sizeof(float)) : 0;
}

// f(integral_constant<int, kPack>, integral_constant<int, kThreads>) for a row of `columns`.
template <class F>
void with_row_shape(int64_t columns, bool packs, F&& f) {
  using std::integral_constant;
  const auto threads = [&](auto pack) {
    if (columns <= 64 * 2 * static_cast<int64_t>(pack)) f(pack, integral_constant<int, 64>{});
    else f(pack, integral_constant<int, 256>{});
  };
  if (packs) threads(integral_constant<int, 8>{});
  else threads(integral_constant<int, 1>{});
}

}  // namespace ft::cuda
