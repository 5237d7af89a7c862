// Causal attention with grouped queries and an online softmax over tiles of keys (Milakov and
// Gimelshein 2018; Dao et al. 2022): memory grows with T, never with T x T.
//   high = max_j x_j;  sum = sum_j e^(x_j - high);  x_j = softmax_scale q.k_j
//   o = out_scale / sum * sum_j e^(x_j - high) v_j;  lse = high + log sum
#include "cuda/attention_mma.h"
#include "cuda/attention_tile.h"

namespace ft::cuda {

namespace {

// ---- kernels ------------------------------------------------------------------------------------

// Of the 16 threads that share rows.
template <class F>
__device__ float over_row(float x, F&& f) {
#pragma unroll
  for (int lanes = kTileSide / 2; lanes > 0; lanes /= 2)
    x = f(x, __shfl_xor_sync(0xffffffffu, x, lanes));
  return x;
}

// What a thread's four rows have gathered so far.
template <int kColumns>
struct Gathered {
  Seen seen[4];
  float high[4], sum[4];
  Sums<kColumns> o;
};

// Scores become weights; what was gathered shrinks to the new maximum.
template <int kColumns>
__device__ void rescale(Gathered<kColumns>& t, Scores& x, float scale, int k0) {
  const auto larger = [](float a, float b) { return fmaxf(a, b); };
  const auto plus = [](float a, float b) { return a + b; };
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    float high = t.high[r], sum = 0;
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      const bool there = t.seen[r].holds(k0 + tile_column() + c);
      x[r][c] = there ? scale * x[r][c] : -INFINITY;
      high = fmaxf(high, x[r][c]);
    }
    high = over_row(high, larger);
    const float from = high == -INFINITY ? 0.0f : high;  // nothing seen yet
#pragma unroll
    for (int c = 0; c < 4; ++c) sum += x[r][c] = expf(x[r][c] - from);
    const float shrink = expf(t.high[r] - from);
    t.sum[r] = t.sum[r] * shrink + over_row(sum, plus);
    t.high[r] = high;
#pragma unroll
    for (int c = 0; c < kColumns / kTileSide; ++c) t.o[r][c] *= shrink;
  }
}

template <class E>
struct ForwardArgs {
  Rows<const E> q, k, v;
  const int32_t* docs;
  Rows<E> o;
  float* lse;
};

// A block owns a tile of queries of one head.
template <class E, int kColumns>
__global__ void __launch_bounds__(kTileThreads, 2) attend(AttentionSizes s, ForwardArgs<E> a) {
  __shared__ TileMemory memory;
  TileJob job = tile_job<kColumns>(s, s.heads);
  job.tile = blocks_of(s.queries, kTile) - 1 - job.tile;
  const int q0 = job.tile * kTile, kv = job.head / s.group();
  const auto q = head_rows(a.q, s.query_row(job.b), s.queries, q0, job.head, s.dim);
  Gathered<kColumns> t;
  set_zero<kColumns>(t.o);
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    t.seen[r] = seen(s, a.docs, job.b, q0 + tile_row() + r);
    t.high[r] = -INFINITY, t.sum[r] = 0;
  }
  const int first = seen(s, a.docs, job.b, q0).begin / kTile * kTile;
  for (int k0 = first; k0 < s.offset + q0 + q.count; k0 += kTile) {
    Scores x;
    multiply(x, memory, q, head_rows(a.k, s.key_row(job.b), s.keys, k0, kv, s.dim), s.dim);
    rescale(t, x, s.softmax_scale, k0);
    put_weights(memory, x);
    add_weighted<kColumns>(t.o, memory, head_rows(a.v, s.key_row(job.b), s.keys, k0, kv, s.dim),
                           job.c0, s.dim);
  }
  float scale[4];
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    scale[r] = s.out_scale / t.sum[r];
    if (job.c0 == 0 && tile_column() == 0 && tile_row() + r < q.count)
      a.lse[job.head * s.B * static_cast<int64_t>(s.queries) + s.query_row(job.b) + q0 +
            tile_row() + r] = t.high[r] + logf(t.sum[r]);
  }
  store_sums<kColumns>(head_rows(a.o, s.query_row(job.b), s.queries, q0, job.head, s.dim), t.o,
                       scale, job.c0, s.dim);
}

// ---- launchers ----------------------------------------------------------------------------------

template <class E>
void attend_tiles(const ops::Attention& op, Stream stream) {
  const AttentionSizes s(op.in);
  const ForwardArgs<E> args{rows_of<const E>(op.in.q), rows_of<const E>(op.in.k),
                            rows_of<const E>(op.in.v), ptr<const int32_t>(op.in.docs),
                            rows_of<E>(op.o),          ptr<float>(op.lse)};
  with_columns(s.dim, [&](auto columns) {
    constexpr int kColumns = columns;
    const auto blocks = narrow<int>(tile_jobs<kColumns>(s, s.heads, s.queries));
    attend<E, kColumns><<<blocks, kTileThreads, 0, stream_of(stream)>>>(s, args);
    launched("attention");
  });
}

}  // namespace

template <>
void need(const ops::Attention& op, WorkspaceNeed& n) {
  need_mma(op, n);
}

template <>
void run(const ops::Attention& op, Stream stream) {
  if (AttentionSizes(op.in).empty() || attend_by_mma(op, stream)) return;
  with_float(op.in.q.dtype, [&](auto e) { attend_tiles<decltype(e)>(op, stream); });
}

}  // namespace ft::cuda
