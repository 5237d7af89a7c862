// What kernels and their launchers share: views of tensors as they look on the device, conversion,
// grids, sums over a warp and a block. For .cu files.
#pragma once

#include "core/tensor.h"
#include "core/workspace.h"
#include "cuda/common/gpu.h"

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <type_traits>

namespace ft::cuda {

using bfloat16 = __nv_bfloat16;

constexpr int kWarp = 32;

template <class E>
constexpr Dtype device_dtype_of() {
  if constexpr (std::is_same_v<E, bfloat16>) return Dtype::BF16;
  else return dtype_of<E>();
}
// Typed memory of a tensor; throws where the dtype differs.
template <class E>
E* ptr(const Tensor& t) {
  FT_CHECK(t.dtype == device_dtype_of<std::remove_const_t<E>>(), "tensor holds {}, not {}",
           name_of(t.dtype), name_of(device_dtype_of<std::remove_const_t<E>>()));
  return static_cast<E*>(t.data);
}

// A matrix with dense columns; rows may lie apart.
template <class E>
struct Rows {
  E* data;
  int64_t stride;
  __host__ __device__ E* operator[](int64_t row) const { return data + row * stride; }
};
template <class E>
Rows<E> rows_of(const Tensor& t) {
  return {ptr<E>(t), t.dims > 1 ? t.stride[0] : 1};
}

// f(E{}) with the element type of a dtype: float or bfloat16.
template <class F>
void with_float(Dtype dtype, F&& f) {
  if (dtype == Dtype::BF16) f(bfloat16{});
  else f(float{});
}

__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(bfloat16 x) { return __bfloat162float(x); }
template <class E>
__device__ inline E from_float(float x) {
  if constexpr (std::is_same_v<E, bfloat16>) return __float2bfloat16_rn(x);
  else return x;
}

template <class I>
__host__ __device__ constexpr I blocks_of(I count, I size) {
  return (count + size - 1) / size;
}
// Blocks for a loop that strides over the grid: enough to fill the GPU, no more than there is work.
inline unsigned grid_for(int64_t work, int64_t per_block) {
  const int64_t most = static_cast<int64_t>(gpu().multiprocessors) * 16;
  return static_cast<unsigned>(std::clamp<int64_t>(blocks_of(work, per_block), 1, most));
}
// After a launch: whether it could be started.
inline void launched(const char* kernel) { check(cudaGetLastError(), kernel); }

// Allows a kernel more than 48 KiB of shared memory; cheap enough to be called before each launch.
template <class Kernel>
void allow_shared(Kernel kernel, int64_t bytes) {
  if (bytes > 48 * 1024)
    FT_CUDA(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                 cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(bytes)));
}

// The workspaces that run() takes: as many bytes in a slot, on each stream that it may run on.
inline void need_workspace(WorkspaceNeed& n, int slot, int64_t bytes) { n.each(slot, bytes); }

// Sums in a fixed order: a butterfly within a warp, then warps in order. Every thread has the sum.
template <class V>
__device__ inline V warp_sum(V value) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2)
    value += __shfl_xor_sync(0xffffffffu, value, offset);
  return value;
}
__device__ inline float warp_max(float value) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2)
    value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, offset));
  return value;
}
// Of a block of kThreads, a multiple of 32; all threads call it. It may be called again at once.
template <int kThreads, class V>
__device__ inline V block_sum(V value) {
  constexpr int kWarps = kThreads / kWarp;
  __shared__ V parts[kWarps];
  value = warp_sum(value);
  if constexpr (kWarps == 1) return value;
  __syncthreads();
  if (threadIdx.x % kWarp == 0) parts[threadIdx.x / kWarp] = value;
  __syncthreads();
  V sum = parts[0];
  for (int w = 1; w < kWarps; ++w) sum += parts[w];
  return sum;
}

}  // namespace ft::cuda
