// Products of tiles for attention of any head dim in fp32: a block owns kTile rows (queries or
// keys of one head) and visits kTile columns (keys or queries) at a time. A thread has four rows
// and four columns of the scores, and four rows and kColumns / 16 channels of what it sums up.
#pragma once

#include "cuda/attention_common.h"

namespace ft::cuda {

constexpr int kTile = 64;
constexpr int kTileSide = 16;  // threads are kTileSide x kTileSide
constexpr int kTileThreads = kTileSide * kTileSide;
constexpr int kSlab = 32;               // how much of a sum's length lies in shared memory
constexpr int kTileStride = kTile + 4;  // of rows of 64 there: float4 stay aligned

// One head's rows of a tile; those past the last count as zeros.
template <class E>
struct HeadRows {
  Rows<E> rows;
  int count;
};
// Rows [first, first + kTile) of [begin, begin + length), the columns of one head.
template <class E>
__device__ HeadRows<E> head_rows(Rows<E> x, int64_t begin, int length, int first, int head,
                                 int dim) {
  return {{x[begin + first] + static_cast<int64_t>(head) * dim, x.stride},
          min(kTile, length - first)};
}

struct alignas(16) TileMemory {
  float slabs[2][kSlab * kTileStride];  // of two tiles, transposed; or one of rows
  float weights[kTile * kTileStride];   // [column][row]
};

__device__ inline int tile_row() { return 4 * (static_cast<int>(threadIdx.x) / kTileSide); }
__device__ inline int tile_column() { return 4 * (static_cast<int>(threadIdx.x) % kTileSide); }

using Scores = float[4][4];
template <int kColumns>
using Sums = float[4][kColumns / kTileSide];

// slab[d][i] = x[i, d0 + d]
template <class E>
__device__ void load_transposed(float* slab, const HeadRows<const E>& x, int d0, int dim) {
  for (int at = static_cast<int>(threadIdx.x); at < kTile * kSlab; at += kTileThreads) {
    const int i = at / kSlab, d = at % kSlab;
    const bool there = i < x.count && d0 + d < dim;
    slab[d * kTileStride + i] = there ? to_float(x.rows[i][d0 + d]) : 0.0f;
  }
}
// slab[i][c] = x[i0 + i, c0 + c]
template <int kColumns, class E>
__device__ void load_rows(float* slab, const HeadRows<const E>& x, int i0, int c0, int dim) {
  for (int at = static_cast<int>(threadIdx.x); at < kSlab * kColumns; at += kTileThreads) {
    const int i = at / kColumns, c = at % kColumns;
    const bool there = i0 + i < x.count && c0 + c < dim;
    slab[i * (kColumns + 4) + c] = there ? to_float(x.rows[i0 + i][c0 + c]) : 0.0f;
  }
}

__device__ inline void add_outer(float* sums, int stride, const float4& a, const float4& b) {
  const float as[4] = {a.x, a.y, a.z, a.w}, bs[4] = {b.x, b.y, b.z, b.w};
#pragma unroll
  for (int r = 0; r < 4; ++r)
#pragma unroll
    for (int c = 0; c < 4; ++c) sums[r * stride + c] = fmaf(as[r], bs[c], sums[r * stride + c]);
}

// scores[r][c] = sum_d rows[r, d] columns[c, d]
template <class E>
__device__ void multiply(Scores& scores, TileMemory& m, const HeadRows<const E>& rows,
                         const HeadRows<const E>& columns, int dim) {
#pragma unroll
  for (int r = 0; r < 4; ++r)
#pragma unroll
    for (int c = 0; c < 4; ++c) scores[r][c] = 0;
  for (int d0 = 0; d0 < dim; d0 += kSlab) {
    __syncthreads();
    load_transposed(m.slabs[0], rows, d0, dim);
    load_transposed(m.slabs[1], columns, d0, dim);
    __syncthreads();
#pragma unroll 8
    for (int d = 0; d < kSlab; ++d) {
      const auto* a = reinterpret_cast<const float4*>(m.slabs[0] + d * kTileStride + tile_row());
      const auto* b = reinterpret_cast<const float4*>(m.slabs[1] + d * kTileStride + tile_column());
      add_outer(&scores[0][0], 4, *a, *b);
    }
  }
}

// Weights of a thread's scores, for add_weighted to read.
__device__ inline void put_weights(TileMemory& m, const Scores& w) {
#pragma unroll
  for (int c = 0; c < 4; ++c)
    *reinterpret_cast<float4*>(m.weights + (tile_column() + c) * kTileStride + tile_row()) =
        make_float4(w[0][c], w[1][c], w[2][c], w[3][c]);
}

// sums[r][.] += sum_column weights[column][r] x[column, c0 + .]
template <int kColumns, class E>
__device__ void add_weighted(Sums<kColumns>& sums, TileMemory& m, const HeadRows<const E>& x,
                             int c0, int dim) {
  static_assert(kSlab * (kColumns + 4) <= 2 * kSlab * kTileStride);
  float* slab = m.slabs[0];
  for (int i0 = 0; i0 < kTile; i0 += kSlab) {
    __syncthreads();
    load_rows<kColumns>(slab, x, i0, c0, dim);
    __syncthreads();
#pragma unroll 4
    for (int i = 0; i < kSlab; ++i) {
      const auto* w =
          reinterpret_cast<const float4*>(m.weights + (i0 + i) * kTileStride + tile_row());
      const auto* y = reinterpret_cast<const float4*>(slab + i * (kColumns + 4) + tile_column());
#pragma unroll
      for (int n = 0; n < kColumns / kTile; ++n)
        add_outer(&sums[0][4 * n], kColumns / kTileSide, *w, y[n * kTile / 4]);
    }
  }
}

// out[r, c0 + .] = scale[r] sums[r][.]
template <int kColumns, class E>
__device__ void store_sums(const HeadRows<E>& out, const Sums<kColumns>& sums,
                           const float (&scale)[4], int c0, int dim) {
#pragma unroll
  for (int r = 0; r < 4; ++r)
#pragma unroll
    for (int c = 0; c < kColumns / kTileSide; ++c) {
      const int column = c0 + c / 4 * kTile + tile_column() + c % 4;
      if (tile_row() + r < out.count && column < dim)
        out.rows[tile_row() + r][column] = from_float<E>(scale[r] * sums[r][c]);
    }
}

template <int kColumns>
__device__ void set_zero(Sums<kColumns>& sums) {
#pragma unroll
  for (int r = 0; r < 4; ++r)
#pragma unroll
    for (int c = 0; c < kColumns / kTileSide; ++c) sums[r][c] = 0;
}

// Which part of the work is a block's: a tile of one head of one sequence, and the channels from c0
// on. Late tiles see most, so those of queries go in reverse.
struct TileJob {
  int tile, b, head, c0;
};
template <int kColumns>
__device__ TileJob tile_job(const AttentionSizes& s, int heads) {
  const int parts = blocks_of(s.dim, kColumns);
  int at = static_cast<int>(blockIdx.x);
  TileJob job;
  job.head = at % heads, at /= heads;
  job.c0 = at % parts * kColumns, at /= parts;
  job.b = at % s.B, job.tile = at / s.B;
  return job;
}
template <int kColumns>
int64_t tile_jobs(const AttentionSizes& s, int heads, int length) {
  return static_cast<int64_t>(blocks_of(length, kTile)) * s.B * blocks_of(s.dim, kColumns) * heads;
}

// f(constant) with the channels that a block sums up at once: those of the head dim, up to 128.
template <class F>
void with_columns(int dim, F&& f) {
  if (dim <= 64) f(std::integral_constant<int, 64>{});
  else f(std::integral_constant<int, 128>{});
}

}  // namespace ft::cuda
