// States from chunk to chunk, the only thing that is sequential.
#pragma once

#include "cuda/ssd_common.h"

#include <cstdint>

namespace ft::cuda {

// kWidth neighbours as floats.
template <int kWidth>
struct SsdSome {
  float v[kWidth];

  __device__ static SsdSome of(const float* from) {
    SsdSome some;
    if constexpr (kWidth == 4)
      *reinterpret_cast<float4*>(some.v) = *reinterpret_cast<const float4*>(from);
    else some.v[0] = *from;
    return some;
  }
  __device__ static SsdSome of(const bfloat16* from) {
    SsdSome some;
    if constexpr (kWidth == 4) {
      const uint2 pairs = *reinterpret_cast<const uint2*>(from);
      some.v[0] = __uint_as_float(pairs.x << 16), some.v[1] = __uint_as_float(pairs.x & ~0xffffu);
      some.v[2] = __uint_as_float(pairs.y << 16), some.v[3] = __uint_as_float(pairs.y & ~0xffffu);
    } else {
      some.v[0] = to_float(*from);
    }
    return some;
  }
  __device__ void store(float* to) const {
    if constexpr (kWidth == 4) *reinterpret_cast<float4*>(to) = *reinterpret_cast<const float4*>(v);
    else *to = v[0];
  }
  __device__ void store(bfloat16* to) const {
    alignas(8) bfloat16 rounded[kWidth];
#pragma unroll
    for (int i = 0; i < kWidth; ++i) rounded[i] = from_float<bfloat16>(v[i]);
    if constexpr (kWidth == 4)
      *reinterpret_cast<uint2*>(to) = *reinterpret_cast<const uint2*>(rounded);
    else *to = rounded[0];
  }
};

// In place, from what each chunk adds to what enters it: state <- carry state + added. What a chunk
// adds lies where the next state will, the last one's in `edge`. With kReverse all of it backwards:
// from the gradient that leaves the last chunk to the one that leaves each, and to the initial one.
// A thread has kWidth neighbours.
template <int kWidth, bool kReverse, class V>
__global__ void __launch_bounds__(kSsdThreads)
    ssd_pass(SsdSizes s, SsdDecays decays, V* states, const float* start, float* edge) {
  using Some = SsdSome<kWidth>;
  const int64_t element = (static_cast<int64_t>(blockIdx.x) * kSsdThreads + threadIdx.x) * kWidth;
  const int64_t per = s.state();
  if (element >= s.B * per) return;
  const int64_t sequence = element / per, rest = element % per, head = rest / (s.P * s.N);
  const auto chunk_at = [&](int64_t step) {
    return sequence * s.chunks + (kReverse ? s.chunks - 1 - step : step);
  };
  constexpr int kAhead = 8;
  Some state{};
  if (start) state = Some::of(start + element);
  for (int64_t first = 0; first < s.chunks; first += kAhead) {
    Some added[kAhead]{};
    float carry[kAhead];
#pragma unroll
    for (int c = 0; c < kAhead; ++c) {
      if (first + c >= s.chunks) break;
      const int64_t chunk = chunk_at(first + c);
      carry[c] = decays.in[(chunk * s.H + head) * s.q + s.tokens(chunk) - 1];
      if (first + c < s.chunks - 1)
        added[c] = Some::of(states + chunk_at(first + c + 1) * per + rest);
      else if (edge) added[c] = Some::of(edge + element);
    }
#pragma unroll
    for (int c = 0; c < kAhead; ++c) {
      if (first + c >= s.chunks) break;
      state.store(states + chunk_at(first + c) * per + rest);
#pragma unroll
      for (int i = 0; i < kWidth; ++i)
        state.v[i] = ssd_masked(carry[c], state.v[i]) + added[c].v[i];
    }
  }
  if (edge) state.store(edge + element);
}

template <int kWidth, bool kReverse, class V>
void ssd_start_pass(const SsdSizes& s, const SsdDecays& decays, V* states, const float* start,
                    float* edge, cudaStream_t on) {
  const int64_t blocks = blocks_of<int64_t>(s.B * s.state(), kSsdThreads * kWidth);
  ssd_pass<kWidth, kReverse, V>
      <<<ssd_grid(blocks), kSsdThreads, 0, on>>>(s, decays, states, start, edge);
  launched("ssd_pass");
}

}  // namespace ft::cuda
