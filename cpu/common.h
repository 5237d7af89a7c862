// What the CPU ops share: typed access to rows, a vectorisable exp, workspaces, reductions in a fixed order.
#pragma once

#include "core/ops.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace ft::cpu {

// Thread-local memory that only grows; `slot` keeps several apart. Growths are counted process-wide.
void* workspace(int slot, size_t bytes);
inline float* workspace_f32(int slot, int64_t count) {
  return static_cast<float*>(workspace(slot, static_cast<size_t>(count) * sizeof(float)));
}
int64_t workspace_growths();

inline float to_float(float x) { return x; }
inline float to_float(bf16 x) { return static_cast<float>(x); }
inline void put(float& to, float x) { to = x; }
inline void put(bf16& to, float x) { to = bf16(x); }

// Calls f with a value of the element type: fp32 or bf16.
template <class F>
void with_type(Dtype dtype, F&& f) {
  if (dtype == Dtype::F32) return f(float{});
  if (dtype == Dtype::BF16) return f(bf16{});
  throw Error(fmt::format("this op takes fp32 and bf16, not {}", name_of(dtype)));
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
    for (int64_t i = 0; i < n; ++i) to[i] = std::bit_cast<float>(static_cast<uint32_t>(from[i]) << 16);
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

// exp(x) to about 2 ulp, written so that compilers vectorise it: 2^k times a polynomial (Cephes expf).
inline float exp_f(float x) {
  x = std::min(std::max(x, -87.3f), 88.7f);
  const float k = std::nearbyint(x * 1.44269504088896341f);
  const float r = (x - k * 0.693359375f) + k * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  return p * std::bit_cast<float>((static_cast<int32_t>(k) + 127) << 23);
}
inline float sigmoid(float x) { return 1.0f / (1.0f + exp_f(-x)); }
inline float silu(float x) { return x * sigmoid(x); }
inline float silu_slope(float x) {
  const float s = sigmoid(x);
  return s * (1.0f + x * (1.0f - s));
}

// Tokens per block of a reduction over tokens: partial sums of fixed blocks are folded in order, so the result
// does not depend on the number of threads.
inline constexpr int64_t kReduceBlock = 64;
inline int64_t blocks_of(int64_t n, int64_t block) { return (n + block - 1) / block; }

// out[i] (+)= sum over blocks of partial[block * n + i]
inline void fold(const float* partial, int64_t blocks, int64_t n, Grad grad, float scale, float* out) {
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < n; ++i) {
    double sum = 0;
    for (int64_t b = 0; b < blocks; ++b) sum += partial[b * n + i];
    const auto value = static_cast<float>(sum * scale);
    out[i] = grad == Grad::Accumulate ? out[i] + value : value;
  }
}

// Slots of workspace().
enum Workspace : int { kPartials, kRowA, kRowB, kRowC, kRowD, kWideA, kWideB, kWideC, kTile };

}  // namespace ft::cpu
