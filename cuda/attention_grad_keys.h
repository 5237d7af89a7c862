// Attention backward on tensor cores, of keys: a block sums up dk and dv of a tile.
#pragma once

#include "cuda/attention_grad_mma.h"

#include <climits>

namespace ft::cuda {

template <int D>
struct KeyTiles {
  static constexpr int kBands = D <= 64 ? 2 : 1, kRows = kWarps * kBands * 16;
  static constexpr int kDepth = 2;  // blocks of 16 queries at once
  bfloat16 k[kRows * D], v[kRows * D], q[2][kVisit * D], d_o[2][kVisit * D];
  float lse[2][kVisit], delta[2][kVisit];
  int32_t docs[2][kVisit];
};

template <int D>
struct KeySums {
  static constexpr int kBands = KeyTiles<D>::kBands;
  Band<D / 8> dk[kBands], dv[kBands];
};

// A tile of queries that a block visits, as a warp with keys [key, end) sees it. Query i of the tile
// sees keys from shift + docs[i] to last + i.
struct QueryVisit {
  Shared q, d_o;
  const float *lse, *delta;
  const int32_t* docs;
  int shift, last, count, key, end;
  __device__ Range blocks() const {
    const int from = max(key - last, 0) / 16;
    int to = 0;
#pragma unroll
    for (int block = 0; block < kBlocks; ++block)
      if (16 * block < count && shift + docs[16 * block] < end) to = block + 1;
    return {from, to};
  }
  __device__ bool sees_all() const {
    return count >= kVisit && shift + docs[kVisit - 1] <= key && end - 1 <= last;
  }
  __device__ Seen seen(int i) const {
    return {i < count ? shift + docs[i] : INT_MAX, last + i + 1};
  }
};

// kSome: not all of the warp's keys are seen by all of the tile's queries.
template <int D, bool kSome, class K>
__device__ void visit_queries(const AttentionSizes& s, KeySums<D>& t, K& k, K& v,
                              const QueryVisit& u, const Range& range) {
  constexpr int kDepth = KeyTiles<D>::kDepth, kBands = KeyTiles<D>::kBands;
#pragma unroll
  for (int part = 0; part < kBlocks; part += kDepth) {
    const Range here{range.from - part, range.to - part};
    if (kSome && (here.from >= kDepth || here.to <= 0)) continue;
    Band<2 * kDepth> p[kBands], ds[kBands];
    score<kSome, kDepth>(p, k, u.q, 16 * part, here);
    score<kSome, kDepth>(ds, v, u.d_o, 16 * part, here);
#pragma unroll
    for (int n = 0; n < 2 * kDepth; ++n)
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        const int i = 16 * part + lane_column(n) + c;
        const float lse_2 = u.lse[i] * kLog2E, delta = u.delta[i];
        const Seen seen = kSome ? u.seen(i) : Seen{};
#pragma unroll
        for (int m = 0; m < kBands; ++m)
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            const bool there = !kSome || seen.holds(u.key + 16 * m + lane_row(half));
            slope(s, lse_2, delta, there, p[m][n][2 * half + c], ds[m][n][2 * half + c]);
          }
      }
    add_weighted<D, kSome, kBands, kDepth>(t.dv, p, u.d_o, 16 * part, here);
    add_weighted<D, kSome, kBands, kDepth>(t.dk, ds, u.q, 16 * part, here);
  }
}

// Begins to copy a visit's queries, from q0 on, of one head.
template <int D>
__device__ void fetch_queries(const AttentionSizes& s, const BackwardArgs& a, KeyTiles<D>& memory,
                              int stage, int b, int head, int q0) {
  const int64_t token = s.query_row(b) + q0;
  const int count = s.queries - q0;
  fetch_rows<D, kVisit>(memory.q[stage], rows_from(a.q, token, head, s.dim), count, s.dim);
  fetch_rows<D, kVisit>(memory.d_o[stage], rows_from(a.d_o, token, head, s.dim), count, s.dim);
  static_assert(kMmaThreads == 2 * kVisit);
  const int i = static_cast<int>(threadIdx.x) % kVisit;
  const bool there = i < count;
  const int64_t at = head * s.query_row(s.B) + token + (there ? i : 0);
  if (static_cast<int>(threadIdx.x) < kVisit) {
    copy_4(&memory.lse[stage][i], a.lse + at, there);
    copy_4(&memory.docs[stage][i], a.docs + token + (there ? i : 0), there);
  } else {
    copy_4(&memory.delta[stage][i], a.delta + at, there);
  }
  close_copies();
}

// A block's keys: part p of the sums of key head kv, in fp32, or the sums themselves.
template <int D>
__device__ void store_keys(const AttentionSizes& s, const BackwardArgs& a, const KeySums<D>& t,
                           const MmaJob& job, int row) {
  const int64_t begin = s.key_row(job.b) + row;
  const int count = s.keys - row, column = job.head / a.parts * s.dim;
#pragma unroll
  for (int m = 0; m < t.kBands; ++m) {
    if (a.parts == 1) {
      store_band<D>({a.dk[begin] + column, a.dk.stride}, t.dk[m], 16 * m, count, s.dim,
                    s.softmax_scale);
      store_band<D>({a.dv[begin] + column, a.dv.stride}, t.dv[m], 16 * m, count, s.dim,
                    s.out_scale);
      continue;
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int i = 16 * m + lane_row(half);
      if (i >= count) continue;
      const int64_t at = (job.head * s.key_row(s.B) + begin + i) * s.dim;
#pragma unroll
      for (int n = 0; n < D / 8; ++n) {
        if (lane_column(n) >= s.dim) continue;
        const float *k = &t.dk[m][n][2 * half], *v = &t.dv[m][n][2 * half];
        *reinterpret_cast<float2*>(a.dk_parts + at + lane_column(n)) =
            make_float2(s.softmax_scale * k[0], s.softmax_scale * k[1]);
        *reinterpret_cast<float2*>(a.dv_parts + at + lane_column(n)) =
            make_float2(s.out_scale * v[0], s.out_scale * v[1]);
      }
    }
  }
}

// A block owns a tile of keys of a key head, and visits a part of its query heads in order.
template <int D>
__device__ void key_slopes(const AttentionSizes& s, const BackwardArgs& a, KeyTiles<D>& memory,
                           const MmaJob& job) {
  using Memory = KeyTiles<D>;
  const int k0 = job.first, kv = job.head / a.parts, count = s.keys - k0;
  const int heads = s.group() / a.parts, head = job.head * heads;
  const int64_t begin = s.key_row(job.b) + k0;
  const Tiles tiles = tiles_that_see<kVisit>(s, a.docs, job.b, k0, min(Memory::kRows, count));
  const int each = tiles.end - tiles.first, visits = heads * each;
  const auto fetch = [&](int n) {
    fetch_queries<D>(s, a, memory, n % 2, job.b, head + n / each,
                     (tiles.first + n % each) * kVisit);
  };
  fetch_rows<D, Memory::kRows>(memory.k, rows_from(a.k, begin, kv, s.dim), count, s.dim);
  fetch_rows<D, Memory::kRows>(memory.v, rows_from(a.v, begin, kv, s.dim), count, s.dim);
  if (visits > 0) fetch(0);
  else close_copies();
  const int row = 16 * Memory::kBands * warp_id();  // the warp's first in the tile
  KeySums<D> t;
#pragma unroll
  for (int m = 0; m < Memory::kBands; ++m) set_zero<D / 8>(t.dk[m]), set_zero<D / 8>(t.dv[m]);
  Own<D, Memory::kBands, false> k{shared(memory.k), row}, v{shared(memory.v), row};
  for (int n = 0; n < visits; ++n) {
    await_copies<0>();
    __syncthreads();
    if (n + 1 < visits) fetch(n + 1);
    const int stage = n % 2, q0 = (tiles.first + n % each) * kVisit;
    const QueryVisit u{shared(memory.q[stage]),
                       shared(memory.d_o[stage]),
                       memory.lse[stage],
                       memory.delta[stage],
                       memory.docs[stage],
                       s.offset - static_cast<int>(s.query_row(job.b)),
                       s.offset + q0,
                       s.queries - q0,
                       k0 + row,
                       min(k0 + row + 16 * Memory::kBands, s.keys)};
    const Range range = u.blocks();
    if (u.sees_all()) visit_queries<D, false>(s, t, k, v, u, range);
    else if (range.from < range.to) visit_queries<D, true>(s, t, k, v, u, range);
  }
  await_copies<0>();
  store_keys<D>(s, a, t, job, k0 + row);
}

}  // namespace ft::cuda
