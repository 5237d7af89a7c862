// Attention backward on tensor cores, of queries: a block sums up dq of a tile.
#pragma once

#include "cuda/attention_grad_mma.h"

namespace ft::cuda {

template <int D>
struct QueryTiles {
  static constexpr int kBands = D <= 64 ? 2 : 1, kRows = kWarps * kBands * 16;
  static constexpr int kDepth = 2;  // blocks of 16 keys at once
  bfloat16 q[kRows * D], d_o[kRows * D], k[2][kVisit * D], v[2][kVisit * D];
};

template <int D>
struct QuerySums {
  static constexpr int kBands = QueryTiles<D>::kBands;
  int begin[kBands][2], end;  // as in forward
  float lse_2[kBands][2], delta[kBands][2];
  Band<D / 8> dq[kBands];
};

template <int D>
__device__ void begin_queries(const AttentionSizes& s, const BackwardArgs& a, const MmaJob& job,
                              int row, QuerySums<D>& t) {
  t.end = s.offset + row + lane_row(0) + 1;
#pragma unroll
  for (int m = 0; m < t.kBands; ++m) {
    set_zero<D / 8>(t.dq[m]);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int i = row + 16 * m + lane_row(half);
      const int64_t at = job.head * s.query_row(s.B) + s.query_row(job.b) + i;
      const bool there = i < s.queries;
      t.begin[m][half] = seen(s, a.docs, job.b, i).begin;
      t.lse_2[m][half] = there ? a.lse[at] * kLog2E : 0.0f;
      t.delta[m][half] = there ? a.delta[at] : 0.0f;
    }
  }
}

// kSome: not all of the tile's keys are seen by all of the warp's queries.
template <int D, bool kSome, class Q>
__device__ void visit_keys(const AttentionSizes& s, QuerySums<D>& t, Q& q, Q& d_o, Shared k,
                           Shared v, int k0, const Range& range) {
  constexpr int kDepth = QueryTiles<D>::kDepth, kBands = QueryTiles<D>::kBands;
#pragma unroll
  for (int part = 0; part < kBlocks; part += kDepth) {
    const Range here{range.from - part, range.to - part};
    if (kSome && (here.from >= kDepth || here.to <= 0)) continue;
    Band<2 * kDepth> p[kBands], ds[kBands];
    score<kSome, kDepth>(p, q, k, 16 * part, here);
    score<kSome, kDepth>(ds, d_o, v, 16 * part, here);
#pragma unroll
    for (int m = 0; m < kBands; ++m)
#pragma unroll
      for (int n = 0; n < 2 * kDepth; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int half = i / 2, key = k0 + 16 * part + lane_column(n) + i % 2;
          const bool there = !kSome || (t.begin[m][half] <= key && key < t.end + 16 * m + 8 * half);
          slope(s, t.lse_2[m][half], t.delta[m][half], there, p[m][n][i], ds[m][n][i]);
        }
    add_weighted<D, kSome, kBands, kDepth>(t.dq, ds, k, 16 * part, here);
  }
}

// A block owns a tile of queries of one head.
template <int D>
__device__ void query_slopes(const AttentionSizes& s, const BackwardArgs& a, QueryTiles<D>& memory,
                             const MmaJob& job) {
  using Memory = QueryTiles<D>;
  const int q0 = job.first, count = s.queries - q0;
  const int64_t token = s.query_row(job.b) + q0;
  const auto fetch = [&](int k0) {
    const int stage = k0 / kVisit % 2, kv = job.head / s.group();
    const int64_t row = s.key_row(job.b) + k0;
    fetch_rows<D, kVisit>(memory.k[stage], rows_from(a.k, row, kv, s.dim), s.keys - k0, s.dim);
    fetch_rows<D, kVisit>(memory.v[stage], rows_from(a.v, row, kv, s.dim), s.keys - k0, s.dim);
    close_copies();
  };
  const int first = seen(s, a.docs, job.b, q0).begin / kVisit * kVisit;
  const int past = s.offset + min(s.queries, q0 + Memory::kRows);
  fetch_rows<D, Memory::kRows>(memory.q, rows_from(a.q, token, job.head, s.dim), count, s.dim);
  fetch_rows<D, Memory::kRows>(memory.d_o, rows_from(a.d_o, token, job.head, s.dim), count, s.dim);
  fetch(first);
  const int row = 16 * Memory::kBands * warp_id();  // the warp's first in the tile
  const WarpQueries mine = warp_queries(s, a.docs, job.b, q0 + row, 16 * Memory::kBands);
  QuerySums<D> t;
  begin_queries(s, a, job, q0 + row, t);
  Own<D, Memory::kBands, true> q{shared(memory.q), row}, d_o{shared(memory.d_o), row};
  for (int k0 = first; k0 < past; k0 += kVisit) {
    await_copies<0>();
    __syncthreads();
    if (k0 + kVisit < past) fetch(k0 + kVisit);
    if (k0 == first) q.load(), d_o.load();
    const Shared k = shared(memory.k[k0 / kVisit % 2]), v = shared(memory.v[k0 / kVisit % 2]);
    const Range range = mine.blocks(k0);
    if (mine.see_all(k0)) visit_keys<D, false>(s, t, q, d_o, k, v, k0, range);
    else if (range.from < range.to) visit_keys<D, true>(s, t, q, d_o, k, v, k0, range);
  }
  const Rows<bfloat16> out{a.dq[token] + static_cast<int64_t>(job.head) * s.dim, a.dq.stride};
#pragma unroll
  for (int m = 0; m < Memory::kBands; ++m)
    store_band<D>(out, t.dq[m], row + 16 * m, count, s.dim, s.softmax_scale);
}

}  // namespace ft::cuda
