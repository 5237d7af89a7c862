// Tensor-core products of bf16 tiles with fp32 sums, by mma.sync. Tiles go through shared memory, a
// step of 32 while the next one is read. A block has two threads for each row of its result, a warp
// 32 rows and half of the columns.
#pragma once

#include "cuda/common/mma.h"

namespace ft::cuda {

inline constexpr int kMmaStep = 32, kMmaPitch = kMmaStep + 8;

// A warp's part of a result with kColumns: [16-row half][8-column block], 4 of each thread.
template <int kColumns>
using MmaSum = float[2][kColumns / 16][4];

template <int kRows, int kColumns>
struct MmaShared {
  static constexpr int kThreads = 2 * kRows;
  alignas(16) bfloat16 a[2][kRows * kMmaPitch], b[2][kColumns * kMmaPitch];
};

// How an operand lies in memory: its rows are those of the result (for B: its columns) and its
// columns are contracted, or the other way round.
enum class MmaRows { Tile, Steps };

// One step of an operand: kTile x 32 numbers, 8 neighbours of a row at a time. An Operand has
//   Raw load(int row, int column)                what is read, zero outside
//   uint4 pack(Raw, int row, int column)         8 numbers as bf16
// so that reading can run ahead of the arithmetic.
template <int kTile, MmaRows kRows, int kThreads, class Operand>
struct MmaStepOf {
  static constexpr int kWidth = kRows == MmaRows::Tile ? kMmaStep : kTile;
  static constexpr int kPitch = kWidth + 8, kEach = kTile * kMmaStep / 8 / kThreads;
  static_assert(kEach * 8 * kThreads == kTile * kMmaStep);
  typename Operand::Raw raw[kEach];

  template <class F>
  __device__ static void each(int step, const F& f) {
#pragma unroll
    for (int e = 0; e < kEach; ++e) {
      const int index = static_cast<int>(threadIdx.x) + e * kThreads;
      const int row = index / (kWidth / 8), column = index % (kWidth / 8) * 8;
      if constexpr (kRows == MmaRows::Tile) f(e, row, step + column, row * kPitch + column);
      else f(e, step + row, column, row * kPitch + column);
    }
  }
  __device__ void fetch(Operand& from, int step) {
    each(step, [&](int e, int row, int column, int) { raw[e] = from.load(row, column); });
  }
  __device__ void put(Operand& from, int step, bfloat16* to) {
    each(step, [&](int e, int row, int column, int at) {
      *reinterpret_cast<uint4*>(to + at) = from.pack(raw[e], row, column);
    });
  }
};

// 16 x 16 of A at tile index m and step k, and of B for two blocks of 8 columns.
template <int kTile, MmaRows kRows>
__device__ inline void mma_load_a(const bfloat16* from, int m, int k, uint32_t (&to)[4]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp, group = lane / 8, r = lane % 8;
  if constexpr (kRows == MmaRows::Tile)
    load_matrices(to, shared(from + (m + r + group % 2 * 8) * kMmaPitch + k + group / 2 * 8));
  else
    load_transposed_matrices(
        to, shared(from + (k + r + group / 2 * 8) * (kTile + 8) + m + group % 2 * 8));
}
template <int kTile, MmaRows kRows>
__device__ inline void mma_load_b(const bfloat16* from, int n, int k, uint32_t (&to)[4]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp, group = lane / 8, r = lane % 8;
  if constexpr (kRows == MmaRows::Tile)
    load_matrices(to, shared(from + (n + r + group / 2 * 8) * kMmaPitch + k + group % 2 * 8));
  else
    load_transposed_matrices(
        to, shared(from + (k + r + group % 2 * 8) * (kTile + 8) + n + group / 2 * 8));
}

// First row and column of this warp in the result.
__device__ inline int mma_row() { return static_cast<int>(threadIdx.x) / kWarp / 2 * 32; }
template <int kColumns>
__device__ inline int mma_column() {
  return static_cast<int>(threadIdx.x) / kWarp % 2 * (kColumns / 2);
}

template <int kRows, int kColumns, MmaRows kA, MmaRows kB>
__device__ inline void mma_step(const bfloat16* a, const bfloat16* b, MmaSum<kColumns>& sum) {
#pragma unroll
  for (int k = 0; k < kMmaStep; k += 16) {
    uint32_t left[2][4];
#pragma unroll
    for (int half = 0; half < 2; ++half)
      mma_load_a<kRows, kA>(a, mma_row() + half * 16, k, left[half]);
#pragma unroll
    for (int block = 0; block < kColumns / 16; block += 2) {
      uint32_t right[4];
      mma_load_b<kColumns, kB>(b, mma_column<kColumns>() + block * 8, k, right);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        add_product(sum[half][block], left[half], right[0], right[1]);
        add_product(sum[half][block + 1], left[half], right[2], right[3]);
      }
    }
  }
}

struct MmaNothing {
  __device__ void operator()(int) const {}
};
// sum += A B over steps [begin, end), before(step) ahead of each. All threads call it with the same
// range; what operands read of shared memory was written before a barrier. It ends with one.
template <int kRows, int kColumns, MmaRows kA, MmaRows kB, class A, class B, class F = MmaNothing>
__device__ void mma_multiply(MmaShared<kRows, kColumns>& s, int begin, int end, A& a, B& b,
                             MmaSum<kColumns>& sum, F&& before = {}) {
  if (begin >= end) return;
  MmaStepOf<kRows, kA, 2 * kRows, A> next_a;
  MmaStepOf<kColumns, kB, 2 * kRows, B> next_b;
  next_a.fetch(a, begin), next_b.fetch(b, begin);
  next_a.put(a, begin, s.a[0]), next_b.put(b, begin, s.b[0]);
  __syncthreads();
  int now = 0;
  for (int step = begin; step < end; step += kMmaStep, now ^= 1) {
    const int next = step + kMmaStep;
    if (next < end) next_a.fetch(a, next), next_b.fetch(b, next);
    before(step);
    mma_step<kRows, kColumns, kA, kB>(s.a[now], s.b[now], sum);
    if (next < end) next_a.put(a, next, s.a[now ^ 1]), next_b.put(b, next, s.b[now ^ 1]);
    __syncthreads();
  }
}

// f(row, column, first, second) for each pair of neighbours of this thread.
template <int kColumns, class F>
__device__ inline void mma_each(MmaSum<kColumns>& sum, const F& f) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
  for (int half = 0; half < 2; ++half)
#pragma unroll
    for (int block = 0; block < kColumns / 16; ++block)
#pragma unroll
      for (int v = 0; v < 4; v += 2)
        f(mma_row() + half * 16 + lane / 4 + v * 4,
          mma_column<kColumns>() + block * 8 + lane % 4 * 2, sum[half][block][v],
          sum[half][block][v + 1]);
}

// Sums over columns of f(row, column, first, second), by row; thread r < kRows gets that of row r.
template <int kRows, int kColumns, class F>
__device__ float mma_row_sums(MmaSum<kColumns>& sum, float (&shared)[2][kRows], const F& f) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  float rows[4] = {};
#pragma unroll
  for (int half = 0; half < 2; ++half)
#pragma unroll
    for (int block = 0; block < kColumns / 16; ++block)
#pragma unroll
      for (int v = 0; v < 4; v += 2)
        rows[half * 2 + v / 2] += f(mma_row() + half * 16 + lane / 4 + v * 4,
                                    mma_column<kColumns>() + block * 8 + lane % 4 * 2,
                                    sum[half][block][v], sum[half][block][v + 1]);
  __syncthreads();  // the sums before were read
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    rows[r] += __shfl_xor_sync(~0u, rows[r], 1);
    rows[r] += __shfl_xor_sync(~0u, rows[r], 2);
    if (lane % 4 == 0)
      shared[threadIdx.x / kWarp % 2][mma_row() + r / 2 * 16 + lane / 4 + r % 2 * 8] = rows[r];
  }
  __syncthreads();
  const int own = static_cast<int>(threadIdx.x);
  return own < kRows ? shared[0][own] + shared[1][own] : 0.0f;
}

// -------------------------------------------------------------------------------------------------
// Operands
// -------------------------------------------------------------------------------------------------

__device__ inline uint4 mma_pack(const float (&v)[8]) {
  return {pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]), pack_bf16(v[4], v[5]),
          pack_bf16(v[6], v[7])};
}
struct MmaEightFloats {
  float4 a, b;
  __device__ void to(float (&v)[8]) const {
    v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w, v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
  }
};

// A matrix of bf16 as it is.
struct MmaPlain {
  const bfloat16* data;
  int64_t stride;
  int rows, columns;
  using Raw = uint4;
  __device__ Raw load(int row, int column) const {
    if (row >= rows || column >= columns) return {};
    return *reinterpret_cast<const uint4*>(data + row * stride + column);
  }
  __device__ uint4 pack(const Raw& raw, int, int) const { return raw; }
};

__device__ inline uint4 mma_scale(const uint4& v, float factor) {
  const auto scaled = [&](uint32_t pair) {
    return pack_bf16(factor * low_of(pair), factor * high_of(pair));
  };
  return {scaled(v.x), scaled(v.y), scaled(v.z), scaled(v.w)};
}

// The same, rows scaled; where columns are those of several heads, each has factors of its own.
struct MmaScaled {
  const bfloat16* data;
  int64_t stride;
  int rows, columns;
  const float* factors;
  int64_t pitch;  // from a head's factors to the next one's
  int per_head;   // columns
  struct Raw {
    uint4 v;
    float factor;
  };
  __device__ Raw load(int row, int column) const {
    if (row >= rows || column >= columns) return {};
    const int head = column / per_head;
    return {*reinterpret_cast<const uint4*>(data + row * stride + column),
            factors[head * pitch + row]};
  }
  __device__ uint4 pack(const Raw& raw, int, int) const { return mma_scale(raw.v, raw.factor); }
};

// A matrix of floats.
struct MmaFloats {
  const float* data;
  int64_t stride;
  int rows, columns;
  using Raw = MmaEightFloats;
  __device__ Raw load(int row, int column) const {
    if (row >= rows || column >= columns) return {};
    const float* from = data + row * stride + column;
    return {*reinterpret_cast<const float4*>(from), *reinterpret_cast<const float4*>(from + 4)};
  }
  __device__ uint4 pack(const Raw& raw, int, int) const {
    float v[8];
    raw.to(v);
    return mma_pack(v);
  }
};

}  // namespace ft::cuda
