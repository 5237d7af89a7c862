// Work that looks at each element of a matrix once: eight columns a thread where alignment and width
// allow it, else one. For .cu files.
#pragma once

#include "cuda/common/launch.h"

#include <bit>

namespace ft::cuda {

constexpr int kWide = 8;  // elements: 16 bytes of bf16, twice that of fp32
constexpr int kEachThreads = 256;

// Whether rows of the tensor can be read kWide columns at a time.
inline bool allows_wide(const Tensor& t) {
  const int64_t stride = t.dims > 1 ? t.stride[0] : 0;
  return reinterpret_cast<uintptr_t>(t.data) % 16 == 0 && stride * size_of(t.dtype) % 16 == 0;
}
template <class... T>
bool allow_wide(int64_t cols, const T&... tensors) {
  return cols % kWide == 0 && (allows_wide(tensors) && ...);
}

template <class E, int N>
struct alignas(sizeof(E) * N < 16 ? sizeof(E) * N : 16) Vec {
  E v[N];
};
template <int N, class E>
__device__ void load(const E* from, float (&to)[N]) {
  const auto all = *reinterpret_cast<const Vec<E, N>*>(from);
#pragma unroll
  for (int i = 0; i < N; ++i) to[i] = to_float(all.v[i]);
}
template <int N, class E>
__device__ void store(E* to, const float (&from)[N]) {
  Vec<E, N> all;
#pragma unroll
  for (int i = 0; i < N; ++i) all.v[i] = from_float<E>(from[i]);
  *reinterpret_cast<Vec<E, N>*>(to) = all;
}

// f.at<N>(row, column) for N columns from there on. `lanes` threads share a row.
template <int N, class F>
__global__ void __launch_bounds__(kEachThreads)
    each_kernel(F f, int64_t rows, int64_t cols, int lanes) {
  const int together = kEachThreads / lanes;
  const int64_t per_row = blocks_of(blocks_of(cols, int64_t{N}), int64_t{lanes});
  const int64_t tiles = blocks_of(rows, int64_t{together}) * per_row;
  for (int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const int64_t row = tile / per_row * together + threadIdx.x / lanes;
    const int64_t column = (tile % per_row * lanes + threadIdx.x % lanes) * N;
    if (row < rows && column < cols) f.template at<N>(row, column);
  }
}

// f: a struct with a template <int N> __device__ void at(int64_t row, int64_t column) const.
template <class F>
void for_each(const char* name, const F& f, int64_t rows, int64_t cols, bool wide, Stream stream) {
  if (rows == 0 || cols == 0) return;
  const int64_t threads = wide ? cols / kWide : cols;
  const int lanes = static_cast<int>(
      std::min<uint64_t>(kEachThreads, std::bit_ceil(static_cast<uint64_t>(threads))));
  const int64_t tiles =
      blocks_of(rows, int64_t{kEachThreads} / lanes) * blocks_of(threads, int64_t{lanes});
  const unsigned grid = static_cast<unsigned>(std::min<int64_t>(tiles, 1 << 20));
  if (wide)
    each_kernel<kWide, F><<<grid, kEachThreads, 0, stream_of(stream)>>>(f, rows, cols, lanes);
  else each_kernel<1, F><<<grid, kEachThreads, 0, stream_of(stream)>>>(f, rows, cols, lanes);
  launched(name);
}

// Tensors of one shape as rows; a single one where none has gaps.
struct Shape {
  int64_t rows, cols;
};
template <class... T>
Shape shape_of(const Tensor& first, const T&... others) {
  if (first.dims == 1 || (first.dense() && (others.dense() && ...))) return {1, first.size()};
  return {first.rows(), first.cols()};
}

}  // namespace ft::cuda
