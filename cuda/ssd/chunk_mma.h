// What the tensor-core kernels of the SSD's forward and backward share: bf16 operands, fp32 sums.
// For chunks of at most kMmaChunk tokens, P and N multiples of 16 and rows of whole 16-byte pieces.
#pragma once

#include "cuda/ssd/mma.h"
#include "cuda/ssd_common.h"

namespace ft::cuda {

inline constexpr int64_t kMmaChunk = 256;

inline bool mma_aligned(const Tensor& t) {
  return reinterpret_cast<uintptr_t>(t.data) % 16 == 0 && t.stride[0] % 8 == 0;
}
inline bool mma_aligned(const ops::SsdInputs& in) {
  const SsdSizes s(in);
  return in.x.dtype == Dtype::BF16 && s.P % 16 == 0 && s.N % 16 == 0 && s.q <= kMmaChunk &&
         mma_aligned(in.x) && mma_aligned(in.b) && mma_aligned(in.c);
}

// Decays of one chunk and head in shared memory.
struct MmaVectors {
  alignas(16) float2 cs[kMmaChunk];
  alignas(16) float dt[kMmaChunk];
  float in[kMmaChunk], out[kMmaChunk];
  int first[kMmaChunk];  // first token of the document, in the chunk

  template <int kThreads>
  __device__ void load_from(const SsdDecays& from, const int32_t* docs, int64_t begin, int q) {
    for (int i = static_cast<int>(threadIdx.x); i < q; i += kThreads) {
      cs[i] = from.cs[i], dt[i] = from.dt[i], in[i] = from.in[i], out[i] = from.out[i];
      first[i] = static_cast<int>(max(docs[i] - begin, int64_t{0}));
    }
  }
};

// e^x for x <= 0; NaN stays.
__device__ inline float mma_exp(float exponent) { return __expf(exponent > 0 ? 0.0f : exponent); }

// M_ij w_ij of a lower q x q matrix w, times dt_j where kDt. Rows of a chunk start at row0, columns
// at column0.
template <bool kDt>
struct MmaDecayed {
  const float* data;
  int64_t pitch;
  int row0, column0, q;
  const MmaVectors* v;
  using Raw = MmaEightFloats;
  __device__ bool outside(int row, int column) const {
    return row0 + row >= q || column0 + column > row0 + row;
  }
  __device__ Raw load(int row, int column) const {
    if (outside(row, column)) return {};
    const float* from = data + (row0 + row) * pitch + column0 + column;
    return {*reinterpret_cast<const float4*>(from), *reinterpret_cast<const float4*>(from + 4)};
  }
  __device__ uint4 pack(const Raw& raw, int row, int column) const {
    if (outside(row, column)) return {};
    const int i = row0 + row, j0 = column0 + column, first = v->first[i];
    const float2 at = v->cs[i];
    const float4* cs = reinterpret_cast<const float4*>(v->cs + j0);
    float w[8], dt[8];
    raw.to(w);
    if constexpr (kDt) {
      const float4* from = reinterpret_cast<const float4*>(v->dt + j0);
      MmaEightFloats{from[0], from[1]}.to(dt);
    }
#pragma unroll
    for (int e = 0; e < 8; e += 2) {
      const float4 pair = cs[e / 2];
      w[e] *= mma_exp((at.x - pair.x) + (at.y - pair.y));
      w[e + 1] *= mma_exp((at.x - pair.z) + (at.y - pair.w));
    }
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      if constexpr (kDt) w[e] *= dt[e];
      w[e] = j0 + e <= i && j0 + e >= first ? w[e] : 0.0f;
    }
    return mma_pack(w);
  }
};

// A lower q x q matrix as it is; nothing above its diagonal's tiles is read.
struct MmaLower {
  const float* data;
  int64_t pitch;
  int row0, column0, q;
  using Raw = MmaEightFloats;
  __device__ Raw load(int row, int column) const {
    if (row0 + row >= q || column0 + column > row0 + row) return {};
    const float* from = data + (row0 + row) * pitch + column0 + column;
    return {*reinterpret_cast<const float4*>(from), *reinterpret_cast<const float4*>(from + 4)};
  }
  __device__ uint4 pack(const Raw& raw, int, int) const {
    float v[8];
    raw.to(v);
    return mma_pack(v);
  }
};

__device__ inline void mma_store(float* to, float first, float second) {
  *reinterpret_cast<float2*>(to) = {first, second};
}
__device__ inline void mma_store(bfloat16* to, float first, float second) {
  *reinterpret_cast<uint32_t*>(to) = pack_bf16(first, second);
}
__device__ inline float2 mma_load(const bfloat16* from) {
  const uint32_t pair = *reinterpret_cast<const uint32_t*>(from);
  return {low_of(pair), high_of(pair)};
}

// -------------------------------------------------------------------------------------------------
// Kernels
// -------------------------------------------------------------------------------------------------

// C B^T of one group and chunk: tiles on and below the diagonal; columns up to a multiple of 8.
template <int kTile>
__global__ void __launch_bounds__(2 * kTile) mma_scores(SsdArgs<bfloat16> k, int64_t tiles) {
  __shared__ MmaShared<kTile, kTile> shared;
  const int J = static_cast<int>(blockIdx.x % tiles) * kTile;
  const int I = static_cast<int>(blockIdx.x / tiles % tiles) * kTile;
  const int64_t index = blockIdx.x / (tiles * tiles);  // of chunk and group
  const int64_t chunk = index / k.s.G, column = index % k.s.G * k.s.N, begin = k.s.begin(chunk);
  const int q = k.s.tokens(chunk), N = static_cast<int>(k.s.N);
  if (J > I || I >= q) return;
  MmaPlain c{k.c[begin + I] + column, k.c.stride, q - I, N};
  MmaPlain b{k.b[begin + J] + column, k.b.stride, q - J, N};
  MmaSum<kTile> sum = {};
  mma_multiply<kTile, kTile, MmaRows::Tile, MmaRows::Tile>(shared, 0, N, c, b, sum);
  float* to = k.scores + (index * k.s.q + I) * k.s.q + J;
  mma_each<kTile>(sum, [&](int i, int j, float first, float second) {
    if (I + i < q && J + j < k.s.q) mma_store(to + i * k.s.q + j, first, second);
  });
}

// -------------------------------------------------------------------------------------------------
// Launchers
// -------------------------------------------------------------------------------------------------

inline void mma_prepare(const SsdArgs<bfloat16>& k, cudaStream_t on) {
  const SsdSizes& s = k.s;
  const int64_t tiles = s.row_tiles();
  ssd_start_decays(k, on);
  mma_scores<kSsdTile>
      <<<ssd_grid(s.all_chunks() * s.G * tiles * tiles), 2 * kSsdTile, 0, on>>>(k, tiles);
  launched("ssd mma_scores");
}

}  // namespace ft::cuda
