// Elements of a row in packs: loaded and stored 16 bytes at a time where memory is aligned to it,
// one by one elsewhere. And the launch of a function over all packs of a matrix.
#pragma once

#include "cuda/common/launch.h"

#include <cstdint>
#include <initializer_list>

namespace ft::cuda {

constexpr int kPack = 8;

template <class E, int N>
struct alignas(N * sizeof(E) < 16 ? N * sizeof(E) : 16) Pack {
  E at[N];
};

template <int N, class E>
__device__ inline Pack<E, N> get_pack(const E* from) {
  return *reinterpret_cast<const Pack<E, N>*>(from);
}
template <int N, class E>
__device__ inline void put_pack(E* to, const Pack<E, N>& pack) {
  *reinterpret_cast<Pack<E, N>*>(to) = pack;
}
// The same as floats.
template <int N, class E>
__device__ inline void load(const E* from, float (&to)[N]) {
  const Pack<E, N> pack = get_pack<N>(from);
#pragma unroll
  for (int i = 0; i < N; ++i) to[i] = to_float(pack.at[i]);
}
// To device memory in words of 16 or 8 bytes, spelled out: the compiler splits packs into their elements otherwise.
template <int N, class E>
__device__ inline unsigned word_of(const float (&from)[N], int i) {
  if constexpr (std::is_same_v<E, bfloat16>) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(from[2 * i], from[2 * i + 1]);
    return *reinterpret_cast<const unsigned*>(&pair);
  } else {
    return __float_as_uint(from[i]);
  }
}
template <int N, class E>
__device__ inline void store(E* to, const float (&from)[N]) {
  constexpr int kWords = static_cast<int>(N * sizeof(E) / sizeof(unsigned));
  if constexpr (N == 1) {
    *to = from_float<E>(from[0]);
  } else if constexpr (kWords % 4 == 0) {
#pragma unroll
    for (int i = 0; i < kWords; i += 4)
      asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(
                       __cvta_generic_to_global(reinterpret_cast<uint4*>(to) + i / 4)),
                   "r"(word_of<N, E>(from, i)), "r"(word_of<N, E>(from, i + 1)),
                   "r"(word_of<N, E>(from, i + 2)), "r"(word_of<N, E>(from, i + 3))
                   : "memory");
  } else {
    static_assert(kWords == 2);
    asm volatile("st.global.v2.b32 [%0], {%1, %2};" ::"l"(__cvta_generic_to_global(to)),
                 "r"(word_of<N, E>(from, 0)), "r"(word_of<N, E>(from, 1))
                 : "memory");
  }
}

inline bool is_aligned(const Tensor& t) {
  const bool rows = t.dims > 1 && t.rows() > 1;
  return reinterpret_cast<uintptr_t>(t.data) % 16 == 0 &&
         (!rows || t.stride[0] * size_of(t.dtype) % 16 == 0);
}
inline bool are_aligned(std::initializer_list<Tensor> tensors) {
  return std::all_of(tensors.begin(), tensors.end(), is_aligned);
}

// f(std::integral_constant<int, elements of a pack>)
template <int N = kPack, class F>
void with_pack(bool aligned, F&& f) {
  if (aligned) f(std::integral_constant<int, N>{});
  else f(std::integral_constant<int, 1>{});
}

// Tensors of one shape as rows and columns: one row where none has gaps.
struct Extent {
  int64_t rows, cols;
};
inline Extent extent_of(std::initializer_list<Tensor> tensors) {
  const Tensor& t = *tensors.begin();
  const bool flat = t.dims < 2 || std::all_of(tensors.begin(), tensors.end(),
                                              [](const Tensor& x) { return x.dense(); });
  return flat ? Extent{1, t.size()} : Extent{t.rows(), t.cols()};
}

// f.at<N>(row, column) for packs of N columns, and of 1 for those that are left over.
template <int N, class F>
__global__ void each_pack(int64_t cols, unsigned per_row, F f) {
  const int64_t row = blockIdx.x / per_row;
  const int64_t part = blockIdx.x % per_row;
  const int64_t col = (part * blockDim.x + threadIdx.x) * N;
  if (col + N <= cols) {
    f.template at<N>(row, col);
  } else {
    for (int64_t c = col; c < cols; ++c) f.template at<1>(row, c);
  }
}
template <class F>
void launch_packs(const char* name, Extent extent, bool aligned, Stream stream, const F& f) {
  if (extent.rows <= 0 || extent.cols <= 0) return;
  with_pack(aligned, [&](auto pack) {
    constexpr int N = decltype(pack)::value;
    const int64_t packs = blocks_of<int64_t>(extent.cols, N);
    const int64_t threads = std::min<int64_t>(256, blocks_of<int64_t>(packs, kWarp) * kWarp);
    const int64_t per_row = blocks_of(packs, threads);
    each_pack<N><<<static_cast<unsigned>(extent.rows * per_row), static_cast<unsigned>(threads), 0,
                   stream_of(stream)>>>(extent.cols, static_cast<unsigned>(per_row), f);
  });
  launched(name);
}

// 1 / (1 + e^-x): to an ulp or two for fp32, to what bf16 can tell for bf16.
template <class E>
__device__ inline float sigmoid(float x) {
  if constexpr (std::is_same_v<E, bfloat16>) return __fdividef(1.0f, 1.0f + __expf(-x));
  else return 1.0f / (1.0f + expf(-x));
}
template <class E>
__device__ inline float silu(float x) {
  return x * sigmoid<E>(x);
}
// s = sigmoid(x)
__device__ inline float silu_slope(float x, float s) { return s * (1.0f + x * (1.0f - s)); }
template <class E>
__device__ inline float silu_slope(float x) {
  return silu_slope(x, sigmoid<E>(x));
}

}  // namespace ft::cuda
