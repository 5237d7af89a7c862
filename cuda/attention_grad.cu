// Attention backward from the saved log-sum-exp (Dao et al. 2022), with g = out_scale do:
//   P_ij = exp(scale q_i.k_j - lse_i);  D_i = do_i . o_i;  dS_ij = P_ij (g_i.v_j - D_i)
//   dq_i = scale sum_j dS_ij k_j;  dk_j = scale sum_i dS_ij q_i;  dv_j = sum_i P_ij g_i
// D needs no out_scale: do . (out_scale softmax v) = g . (softmax v).
// Blocks of one kernel own queries, those of the other keys; scores are formed in both, so that
// nothing is summed in an order of chance.
#include "cuda/attention_mma.h"
#include "cuda/attention_tile.h"

namespace ft::cuda {

namespace {

constexpr int kDeltaSlot = 0;

template <class E>
struct BackwardArgs {
  Rows<const E> q, k, v, o, d_o;
  const int32_t* docs;
  const float* lse;
  float* delta;  // [heads, T]: D
  Rows<E> dq, dk, dv;
};

// ---- kernels ------------------------------------------------------------------------------------

// A warp takes a token of one head.
template <class E>
__global__ void __launch_bounds__(256) row_deltas(AttentionSizes s, BackwardArgs<E> a) {
  const int warps = static_cast<int>(blockDim.x) / kWarp,
            lane = static_cast<int>(threadIdx.x) % kWarp;
  const int64_t T = s.B * static_cast<int64_t>(s.queries),
                step = static_cast<int64_t>(gridDim.x) * warps;
  for (int64_t at = static_cast<int64_t>(blockIdx.x) * warps + threadIdx.x / kWarp;
       at < s.heads * T; at += step) {
    const int64_t t = at / s.heads, head = at % s.heads;
    const E *o = a.o[t] + head * s.dim, *d_o = a.d_o[t] + head * s.dim;
    float sum = 0;
    for (int d = lane; d < s.dim; d += kWarp) sum = fmaf(to_float(d_o[d]), to_float(o[d]), sum);
    sum = warp_sum(sum);
    if (lane == 0) a.delta[head * T + t] = sum;
  }
}

// What a thread needs to know of four queries.
struct Queries {
  Seen seen[4];
  float lse[4], delta[4];
};
template <class E>
__device__ Queries queries(const AttentionSizes& s, const BackwardArgs<E>& a, int b, int head,
                           int i0) {
  Queries t;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int64_t at = head * (s.B * static_cast<int64_t>(s.queries)) + s.query_row(b) + i0 + i;
    const bool there = i0 + i < s.queries;
    t.seen[i] = seen(s, a.docs, b, i0 + i);
    t.lse[i] = there ? a.lse[at] : 0.0f, t.delta[i] = there ? a.delta[at] : 0.0f;
  }
  return t;
}

// Products q.k and do.v become P and dS, 0 where the query does not see the key.
__device__ inline void slope(const AttentionSizes& s, const Queries& t, int i, int key, float& p,
                             float& ds) {
  if (t.seen[i].holds(key)) {
    p = expf(s.softmax_scale * p - t.lse[i]);
    ds = p * (s.out_scale * ds - t.delta[i]);
  } else {
    p = ds = 0;
  }
}

__device__ inline void fill(float (&x)[4], float value) {
#pragma unroll
  for (int r = 0; r < 4; ++r) x[r] = value;
}

// A block owns a tile of queries of one head.
template <class E, int kColumns>
__global__ void __launch_bounds__(kTileThreads, 2)
    query_slopes(AttentionSizes s, BackwardArgs<E> a) {
  __shared__ TileMemory memory;
  TileJob job = tile_job<kColumns>(s, s.heads);
  job.tile = blocks_of(s.queries, kTile) - 1 - job.tile;
  const int q0 = job.tile * kTile, kv = job.head / s.group();
  const auto own = [&](auto x) {
    return head_rows(x, s.query_row(job.b), s.queries, q0, job.head, s.dim);
  };
  const Queries t = queries(s, a, job.b, job.head, q0 + tile_row());
  Sums<kColumns> dq;
  set_zero<kColumns>(dq);
  const int first = seen(s, a.docs, job.b, q0).begin / kTile * kTile;
  for (int k0 = first; k0 < s.offset + q0 + own(a.q).count; k0 += kTile) {
    const auto k = head_rows(a.k, s.key_row(job.b), s.keys, k0, kv, s.dim);
    Scores p, ds;
    multiply(p, memory, own(a.q), k, s.dim);
    multiply(ds, memory, own(a.d_o), head_rows(a.v, s.key_row(job.b), s.keys, k0, kv, s.dim),
             s.dim);
#pragma unroll
    for (int r = 0; r < 4; ++r)
#pragma unroll
      for (int c = 0; c < 4; ++c) slope(s, t, r, k0 + tile_column() + c, p[r][c], ds[r][c]);
    put_weights(memory, ds);
    add_weighted<kColumns>(dq, memory, k, job.c0, s.dim);
  }
  float scale[4];
  fill(scale, s.softmax_scale);
  store_sums<kColumns>(own(a.dq), dq, scale, job.c0, s.dim);
}

// A block owns a tile of keys of one key head, and visits its query heads in order.
template <class E, int kColumns>
__global__ void __launch_bounds__(kTileThreads, 1) key_slopes(AttentionSizes s, BackwardArgs<E> a) {
  __shared__ TileMemory memory;
  const TileJob job = tile_job<kColumns>(s, s.kv_heads);
  const int k0 = job.tile * kTile;
  const auto own = [&](auto x) {
    return head_rows(x, s.key_row(job.b), s.keys, k0, job.head, s.dim);
  };
  const Tiles tiles = tiles_that_see<kTile>(s, a.docs, job.b, k0, kTile);
  Sums<kColumns> dk, dv;
  set_zero<kColumns>(dk), set_zero<kColumns>(dv);
  for (int h = 0; h < s.group(); ++h)
    for (int tile = tiles.first; tile < tiles.end; ++tile) {
      const int head = job.head * s.group() + h, q0 = tile * kTile;
      const auto q = head_rows(a.q, s.query_row(job.b), s.queries, q0, head, s.dim);
      const auto d_o = head_rows(a.d_o, s.query_row(job.b), s.queries, q0, head, s.dim);
      Scores p, ds;
      multiply(p, memory, own(a.k), q, s.dim);
      multiply(ds, memory, own(a.v), d_o, s.dim);
      const Queries t = queries(s, a, job.b, head, q0 + tile_column());
#pragma unroll
      for (int r = 0; r < 4; ++r)
#pragma unroll
        for (int c = 0; c < 4; ++c) slope(s, t, c, k0 + tile_row() + r, p[r][c], ds[r][c]);
      put_weights(memory, p);
      add_weighted<kColumns>(dv, memory, d_o, job.c0, s.dim);
      __syncthreads();  // the weights have been read
      put_weights(memory, ds);
      add_weighted<kColumns>(dk, memory, q, job.c0, s.dim);
    }
  float scale[4];
  fill(scale, s.softmax_scale);
  store_sums<kColumns>(own(a.dk), dk, scale, job.c0, s.dim);
  fill(scale, s.out_scale);
  store_sums<kColumns>(own(a.dv), dv, scale, job.c0, s.dim);
}

// ---- launchers ----------------------------------------------------------------------------------

template <class E>
BackwardArgs<E> backward_args(const ops::AttentionGrad& op, float* delta) {
  return {.q = rows_of<const E>(op.in.q),
          .k = rows_of<const E>(op.in.k),
          .v = rows_of<const E>(op.in.v),
          .o = rows_of<const E>(op.o),
          .d_o = rows_of<const E>(op.d_o),
          .docs = ptr<const int32_t>(op.in.docs),
          .lse = ptr<const float>(op.lse),
          .delta = delta,
          .dq = rows_of<E>(op.dq),
          .dk = rows_of<E>(op.dk),
          .dv = rows_of<E>(op.dv)};
}

template <class E>
void slopes_by_tiles(const ops::AttentionGrad& op, Stream stream) {
  const AttentionSizes s(op.in);
  const int64_t deltas = s.heads * s.tokens();
  const BackwardArgs<E> args = backward_args<E>(op, workspace<float>(stream, kDeltaSlot, deltas));
  const cudaStream_t on = stream_of(stream);
  row_deltas<E><<<grid_for(deltas, 8), 256, 0, on>>>(s, args);
  launched("attention_grad: row sums");
  with_columns(s.dim, [&](auto columns) {
    constexpr int kColumns = columns;
    const int query_jobs = narrow<int>(tile_jobs<kColumns>(s, s.heads, s.queries));
    query_slopes<E, kColumns><<<query_jobs, kTileThreads, 0, on>>>(s, args);
    launched("attention_grad: queries");
    const int key_jobs = narrow<int>(tile_jobs<kColumns>(s, s.kv_heads, s.keys));
    key_slopes<E, kColumns><<<key_jobs, kTileThreads, 0, on>>>(s, args);
    launched("attention_grad: keys");
  });
}

}  // namespace

template <>
void need(const ops::AttentionGrad& op, WorkspaceNeed& n) {
  const AttentionSizes s(op.in);
  need_workspace(n, kDeltaSlot, s.heads * s.tokens() * static_cast<int64_t>(sizeof(float)));
  need_mma(op, n);
}

template <>
void run(const ops::AttentionGrad& op, Stream stream) {
  if (AttentionSizes(op.in).empty() || slopes_by_mma(op, stream)) return;
  with_float(op.in.q.dtype, [&](auto e) { slopes_by_tiles<decltype(e)>(op, stream); });
}

}  // namespace ft::cuda
