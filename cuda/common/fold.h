// Sums over tokens: each block of the GPU leaves a partial row of its tokens, and the partial
// rows are added up in fp64 in an order that depends on their number only.
#pragma once

#include "cuda/common/launch.h"

namespace ft::cuda {

constexpr int kFoldColumns = 32, kFoldLanes = 16;

// store(column, sum over rows of partial [rows, cols])
template <class Store>
__global__ void fold_columns(const float* partial, int64_t rows, int64_t cols, Store store) {
  __shared__ double sums[kFoldLanes][kFoldColumns];
  const int64_t c = static_cast<int64_t>(blockIdx.x) * kFoldColumns + threadIdx.x;
  double sum = 0;
  if (c < cols) {
#pragma unroll 4
    for (int64_t r = threadIdx.y; r < rows; r += kFoldLanes) sum += partial[r * cols + c];
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || c >= cols) return;
  for (int lane = 1; lane < kFoldLanes; ++lane) sum += sums[lane][threadIdx.x];
  store(c, sum);
}
template <class Store>
void launch_fold(const float* partial, int64_t rows, int64_t cols, Stream stream,
                 const Store& store) {
  if (cols <= 0) return;
  const auto blocks = static_cast<unsigned>(blocks_of<int64_t>(cols, kFoldColumns));
  fold_columns<<<blocks, dim3(kFoldColumns, kFoldLanes), 0, stream_of(stream)>>>(partial, rows,
                                                                                 cols, store);
  launched("fold_columns");
}

// out (+)= scale * sum
struct FoldInto {
  float* out;
  float scale;
  bool accumulate;
  __device__ void operator()(int64_t c, double sum) const {
    const auto value = static_cast<float>(sum * scale);
    out[c] = accumulate ? out[c] + value : value;
  }
};

}  // namespace ft::cuda
