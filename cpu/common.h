// What the CPU ops share: typed access to rows, a vectorisable exp, workspaces, reductions in a
// fixed order.
#pragma once

#include "core/ops.h"
#include "cpu/parallel.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <initializer_list>

namespace ft::cpu {

// Thread-local memory that only grows; `slot` keeps several apart. Growths are counted
// process-wide.
void* workspace(int slot, size_t bytes);
inline float* workspace_f32(int slot, int64_t count) {
  return static_cast<float*>(workspace(slot, static_cast<size_t>(count) * sizeof(float)));
}
int64_t workspace_growths();
int64_t workspace_bytes();  // of all threads, now
// Of a plan: floats in slots of the thread that runs an op, or of each thread that works on it.
inline void main_f32(WorkspaceNeed& n, int slot, int64_t count) {
  n.main(slot, count * static_cast<int64_t>(sizeof(float)));
}
inline void each_f32(WorkspaceNeed& n, std::initializer_list<int> slots, int64_t count) {
  for (int slot : slots) n.each(slot, count * static_cast<int64_t>(sizeof(float)));
}

inline float to_float(float x) { return x; }
inline float to_float(bf16 x) { return static_cast<float>(x); }
inline void put(float& to, float x) { to = x; }
inline void put(bf16& to, float x) { to = bf16(x); }

// Calls f with a value of the element type: fp32 or bf16, which the op's check() has seen to.
template <class F>
void with_type(Dtype dtype, F&& f) {
  assert(dtype == Dtype::F32 || dtype == Dtype::BF16);
  dtype == Dtype::F32 ? f(float{}) : f(bf16{});
}

template <class E>
E* row(const Tensor& t, int64_t r) {
  return static_cast<E*>(t.data) + r * t.stride[0];
}

// Copies of rows as fp32, and back.
inline void load(const Tensor& t, int64_t r, int64_t n, float* to) {
  if (t.dtype == Dtype::F32) {
    std::memcpy(to, row<float>(t, r), static_cast<size_t>(n) * sizeof(float));
  } else {
    const uint16_t* from = reinterpret_cast<const uint16_t*>(row<bf16>(t, r));
    for (int64_t i = 0; i < n; ++i)
      to[i] = std::bit_cast<float>(static_cast<uint32_t>(from[i]) << 16);
  }
}
inline void store(const Tensor& t, int64_t r, int64_t n, const float* from) {
  if (t.dtype == Dtype::F32) {
    std::memcpy(row<float>(t, r), from, static_cast<size_t>(n) * sizeof(float));
  } else {
    bf16* to = row<bf16>(t, r);
    for (int64_t i = 0; i < n; ++i) to[i] = bf16(from[i]);
  }
}

// Row kernels are compiled for AVX2 and for AVX-512 and chosen at load time. Only plain functions
// take it: the body of an `omp parallel` is cut out before the clones are made. Sanitizers cannot
// follow the resolver.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || defined(FT_NO_CLONES) || \
    !defined(__x86_64__)
#define FT_VECTOR
#else
#define FT_VECTOR __attribute__((target_clones("avx512f", "default")))
#endif
#define FT_INLINE inline __attribute__((always_inline))

// exp(x) to about 2 ulp, written so that compilers vectorise it: 2^k times a polynomial (Cephes
// expf). 0 below the smallest normal number, infinity above the largest; NaN stays.
FT_INLINE float exp_f(float value) {
  const float x = std::min(std::max(value, -87.3f), 88.8f);
  const float k = std::nearbyint(x * 1.44269504088896341f);
  const float r = (x - k * 0.693359375f) + k * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  // k reaches 128, whose power of two is no float: 2^127, doubled.
  const float top = std::min(k, 127.0f);
  const float power = std::bit_cast<float>((static_cast<int32_t>(top) + 127) << 23);
  return value < -87.3f ? 0.0f : p * power * (1.0f + (k - top));
}
FT_INLINE float sigmoid(float x) { return 1.0f / (1.0f + exp_f(-x)); }
FT_INLINE float silu(float x) { return x * sigmoid(x); }
FT_INLINE float silu_slope(float x) {
  const float s = sigmoid(x);
  return s * (1.0f + x * (1.0f - s));
}

// Tokens per block of a reduction over tokens: partial sums of fixed blocks are folded in order, so
// the result does not depend on the number of threads.
inline constexpr int64_t kReduceBlock = 64;
inline int64_t blocks_of(int64_t n, int64_t block) { return (n + block - 1) / block; }

// out[i] (+)= scale * sum over blocks of partial[block * n + i]. Columns in strips, so that
// partials are read in rows.
inline void fold(const float* partial, int64_t blocks, int64_t n, Grad grad, float scale,
                 float* out) {
  constexpr int64_t kStrip = 256;
  parallel_for(blocks_of(n, kStrip), [&](int64_t strip) {
    const int64_t begin = strip * kStrip, width = std::min(kStrip, n - begin);
    double sums[kStrip] = {};
    for (int64_t b = 0; b < blocks; ++b)
      for (int64_t i = 0; i < width; ++i) sums[i] += partial[b * n + begin + i];
    for (int64_t i = 0; i < width; ++i) {
      const auto value = static_cast<float>(sums[i] * scale);
      float& to = out[begin + i];
      to = grad == Grad::Accumulate ? to + value : value;
    }
  });
}

// f(block, first token, one past the last) for each block of kReduceBlock tokens, blocks shared
// among threads.
template <class F>
void for_blocks(int64_t tokens, F&& f) {
  parallel_for(blocks_of(tokens, kReduceBlock), [&](int64_t block) {
    f(block, block * kReduceBlock, std::min(tokens, (block + 1) * kReduceBlock));
  });
}

// Slots of workspace().
enum Workspace : int { kPartials, kRowA, kRowB, kRowC, kRowD, kWideA, kWideB, kWideC, kTile };

}  // namespace ft::cpu
