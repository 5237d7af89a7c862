// The sigmoid and what is made of it. For .cu files.
#pragma once

#include "cuda/common/launch.h"

namespace ft::cuda {

// For activations of type E: bf16 needs no more than the hardware's approximations.
template <class E>
__device__ inline float sigmoid(float x) {
  if constexpr (std::is_same_v<E, bfloat16>) return __fdividef(1.0f, 1.0f + __expf(-x));
  else return 1.0f / (1.0f + expf(-x));
}
template <class E>
__device__ inline float silu(float x) {
  return x * sigmoid<E>(x);
}
// The derivative of silu at x, whose sigmoid is s.
__device__ inline float silu_slope(float x, float s) { return s * (1.0f + x * (1.0f - s)); }

}  // namespace ft::cuda
