// What the tensor-core kernels of the SSD's forward and backward share: bf16 operands, fp32 sums.
// For chunks of at most kMmaChunk tokens, P and N multiples of 16 and rows of whole 16-byte pieces.
#pragma once

#include "cuda/ssd/mma.h"
#include "cuda/ssd/pass.h"
#include "cuda/ssd_common.h"

namespace ft::cuda {

inline constexpr int64_t kMmaChunk = 256;
// Of a block that adds up states: rows of P, columns of N.
inline constexpr int kStateRows = 64, kStateColumns = 128;

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
  float2 cs[kMmaChunk];
  float dt[kMmaChunk], in[kMmaChunk], out[kMmaChunk];
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
    const int i = row0 + row, first = v->first[i];
    const float2 at = v->cs[i];
    float w[8];
    raw.to(w);
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      const int j = column0 + column + e;
      if (j > i || j < first) {
        w[e] = 0;
        continue;
      }
      w[e] *= mma_exp((at.x - v->cs[j].x) + (at.y - v->cs[j].y));
      if constexpr (kDt) w[e] *= v->dt[j];
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
  *reinterpret_cast<uint32_t*>(to) = mma_pair(first, second);
}
__device__ inline float2 mma_load(const bfloat16* from) {
  const uint32_t pair = *reinterpret_cast<const uint32_t*>(from);
  return {mma_low(pair), mma_high(pair)};
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

// What each chunk adds to a state, sum_j factor_j tokens_j others_j^T, to where the state of the
// next chunk lies, of the one before where kReverse; at the end to `edge`, if there is one.
template <bool kReverse, class V>
__global__ void __launch_bounds__(2 * kStateRows)
    mma_additions(SsdArgs<bfloat16> k, Rows<const bfloat16> tokens, Rows<const bfloat16> others,
                  const float* factors, V* states, float* edge, int64_t n_tiles, int64_t p_tiles) {
  __shared__ MmaShared<kStateRows, kStateColumns> shared;
  const int n0 = static_cast<int>(blockIdx.x % n_tiles) * kStateColumns;
  const int p0 = static_cast<int>(blockIdx.x / n_tiles % p_tiles) * kStateRows;
  const int64_t index = blockIdx.x / (n_tiles * p_tiles);  // of chunk and head
  const int64_t chunk = index / k.s.H, head = index % k.s.H, begin = k.s.begin(chunk);
  const bool last = chunk % k.s.chunks == (kReverse ? 0 : k.s.chunks - 1);
  if (last && !edge) return;
  const int q = k.s.tokens(chunk);
  const int P = static_cast<int>(k.s.P), N = static_cast<int>(k.s.N);
  MmaScaled a{
      tokens[begin] + head * P + p0, tokens.stride, q, P - p0, factors + index * k.s.q, 0, P};
  MmaPlain b{others[begin] + head / k.s.per_group * N + n0, others.stride, q, N - n0};
  MmaSum<kStateColumns> sum = {};
  mma_multiply<kStateRows, kStateColumns, MmaRows::Steps, MmaRows::Steps>(shared, 0, q, a, b, sum);
  const auto store_to = [&](auto* to) {
    to += (head * P + p0) * N + n0;
    mma_each<kStateColumns>(sum, [&](int p, int n, float first, float second) {
      if (p < P - p0 && n < N - n0) mma_store(to + p * N + n, first, second);
    });
  };
  if (last) store_to(edge + chunk / k.s.chunks * k.s.state());
  else store_to(states + (chunk + (kReverse ? -1 : 1)) * k.s.state());
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

template <bool kReverse, class V>
void mma_start_additions(const SsdArgs<bfloat16>& k, Rows<const bfloat16> tokens,
                         Rows<const bfloat16> others, const float* factors, V* states, float* edge,
                         cudaStream_t on) {
  const SsdSizes& s = k.s;
  const int64_t n_tiles = blocks_of<int64_t>(s.N, kStateColumns);
  const int64_t p_tiles = blocks_of<int64_t>(s.P, kStateRows);
  mma_additions<kReverse, V>
      <<<ssd_grid(s.all_chunks() * s.H * n_tiles * p_tiles), 2 * kStateRows, 0, on>>>(
          k, tokens, others, factors, states, edge, n_tiles, p_tiles);
  launched("ssd mma_additions");
}

}  // namespace ft::cuda
