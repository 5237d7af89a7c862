// Attention backward from the saved log-sum-exp (Dao et al. 2022), with g = out_scale do:
//   P_ij = exp(scale q_i.k_j - lse_i);  D_i = do_i . o_i;  dS_ij = P_ij (g_i.v_j - D_i)
//   dq_i = scale sum_j dS_ij k_j;  dk_j = scale sum_i dS_ij q_i;  dv_j = sum_i P_ij g_i
// D needs no out_scale: do . (out_scale softmax v) = g . (softmax v).
// One task owns a query head of a sequence; dk and dv are then summed over the query heads of a key
// head in order.
#include "cpu/attention_common.h"

namespace ft::cpu {

namespace {

// Keys and values of all key heads, for every task to read.
struct Keys {
  float *k, *kt, *vt;
  static int64_t floats(const AttentionSizes& s) {
    return s.B * s.kv_heads * s.key_tiles * (s.tile() + 2 * s.transposed_tile());
  }
  Keys(const ops::AttentionGrad& op, const AttentionSizes& s) {
    const int64_t tiles = s.B * s.kv_heads * s.key_tiles;
    k = workspace_f32(kWideA, floats(s));
    kt = k + tiles * s.tile(), vt = kt + tiles * s.transposed_tile();
    parallel_for(tiles, [&](int64_t t) {
      const int64_t tile = t % s.key_tiles, kv = t / s.key_tiles % s.kv_heads,
                    b = t / s.key_tiles / s.kv_heads;
      load_keys(s, op.in.k, b, kv, tile, k + t * s.tile(), kt + t * s.transposed_tile());
      load_keys(s, op.in.v, b, kv, tile, workspace_f32(kTile, s.tile()),
                vt + t * s.transposed_tile());
    });
  }
};

// One query head of one sequence: its rows as tiles.
struct Head {
  float *q, *g, *dq, *delta, *p, *ds;
  const float* lse;

  static int64_t floats(const AttentionSizes& s) {
    return s.query_tiles * (3 * s.tile() + kTileRows) + 2 * kTileRows * kTileStride;
  }
  Head(const ops::AttentionGrad& op, const AttentionSizes& s, int64_t b, int64_t h) {
    const int64_t rows = s.query_tiles * s.tile(), scores = kTileRows * kTileStride;
    q = workspace_f32(kTile, floats(s));
    g = q + rows, dq = g + rows, p = dq + rows, ds = p + scores, delta = ds + scores;
    lse = op.lse.f32() + h * op.in.q.rows() + b * s.queries;
    for (int64_t tile = 0; tile < s.query_tiles; ++tile) {
      const int64_t q0 = tile * kTileRows, n = std::min(kTileRows, s.queries - q0),
                    token = b * s.queries + q0;
      float *o = dq + tile * s.tile(), *dout = g + tile * s.tile();
      load_tile(s, op.o, h, token, n, 1.0f, o);
      load_tile(s, op.d_o, h, token, n, 1.0f, dout);
      for (int64_t i = 0; i < n; ++i) {
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t d = 0; d < s.wide; ++d) sum += dout[i * s.stride + d] * o[i * s.stride + d];
        delta[q0 + i] = sum;
      }
      for (int64_t i = 0; i < n * s.stride; ++i) dout[i] *= op.in.out_scale;
      load_tile(s, op.in.q, h, token, n, op.in.softmax_scale, q + tile * s.tile());
    }
    std::fill_n(dq, rows, 0.0f);
  }

  // Products of scores become P and dS, 0 where a query does not see the key.
  void slopes(int64_t i, int64_t query, int64_t from, int64_t to) {
    float *pi = p + i * kTileStride, *di = ds + i * kTileStride;
    if (from < to) {
      const float l = lse[query], d = delta[query];
#pragma omp simd
      for (int64_t j = from; j < to; ++j) {
        pi[j] = exp_f(pi[j] - l);
        di[j] = pi[j] * (di[j] - d);
      }
    }
    std::fill(pi, pi + from, 0.0f), std::fill(pi + to, pi + kTileRows, 0.0f);
    std::fill(di, di + from, 0.0f), std::fill(di + to, di + kTileRows, 0.0f);
  }
};

// The gradients of one head's queries, and its part of those of the keys and values: tiles dk, dv
// [key_tiles].
void backward(const ops::AttentionGrad& op, const AttentionSizes& s, const Keys& keys, int64_t b,
              int64_t h, float* dk, float* dv) {
  Head t(op, s, b, h);
  const int32_t* docs = op.in.docs.i32();
  std::fill_n(dk, s.key_tiles * s.tile(), 0.0f);
  std::fill_n(dv, s.key_tiles * s.tile(), 0.0f);
  for (int64_t tile = 0; tile < s.key_tiles; ++tile) {
    const int64_t k0 = tile * kTileRows, m = std::min(kTileRows, s.keys - k0);
    const int64_t from = (b * s.kv_heads + s.kv_of(h)) * s.key_tiles + tile;
    const float *k = keys.k + from * s.tile(), *kt = keys.kt + from * s.transposed_tile(),
                *vt = keys.vt + from * s.transposed_tile();
    for (int64_t u = std::max<int64_t>(0, k0 - s.offset) / kTileRows; u < s.query_tiles; ++u) {
      const int64_t q0 = u * kTileRows, n = std::min(kTileRows, s.queries - q0);
      if (first_key(s, docs, b, q0) >= k0 + m) break;  // documents only move on
      const Reach r = reach(s, docs, b, q0, n, k0, m);
      scores_of(s, r, t.q + u * s.tile(), kt, t.p);
      scores_of(s, r, t.g + u * s.tile(), vt, t.ds);
      for (int64_t i = 0; i < kTileRows; ++i)
        if (r.row_from[i / 4] < r.row_to[i / 4] || i < n) t.slopes(i, q0 + i, r.from[i], r.to[i]);
      add_over_keys(s, r, t.ds, k, t.dq + u * s.tile());
      add_over_queries(s, r, t.ds, t.q + u * s.tile(), dk + tile * s.tile());
      add_over_queries(s, r, t.p, t.g + u * s.tile(), dv + tile * s.tile());
    }
  }
  const Tensor out = op.dq.columns(h * s.dim, (h + 1) * s.dim);
  for (int64_t i = 0; i < s.queries; ++i) {
    float* x = t.dq + i * s.stride;
    for (int64_t d = 0; d < s.dim; ++d) x[d] *= op.in.softmax_scale;
    store(out, b * s.queries + i, s.dim, x);
  }
}

// to[row] = sum of parts[head * part + row] over a key head's query heads, the first one first
void add_heads(const AttentionSizes& s, float* parts, int64_t part, const Tensor& to, int64_t row) {
  for (int64_t h = 1; h < s.heads / s.kv_heads; ++h)
    for (int64_t d = 0; d < s.dim; ++d) parts[d] += parts[h * part + d];
  store(to, row, s.dim, parts);
}

}  // namespace

template <>
void need(const ops::AttentionGrad& op, WorkspaceNeed& n) {
  const AttentionSizes s(op.in);
  main_f32(n, kWideA, Keys::floats(s));
  main_f32(n, kWideB, 2 * s.B * s.heads * s.key_tiles * s.tile());
  each_f32(n, {kTile}, std::max(s.tile(), Head::floats(s)));
}

template <>
void run(const ops::AttentionGrad& op, Stream) {
  const AttentionSizes s(op.in);
  const Keys keys(op, s);
  const int64_t part = s.key_tiles * s.tile(), per = s.heads / s.kv_heads;
  float* dk = workspace_f32(kWideB, 2 * s.B * s.heads * part);  // [B, heads, keys]
  float* dv = dk + s.B * s.heads * part;
  Thrown thrown;
#pragma omp parallel
  {
    // Of every thread, whichever tasks it will get.
    thrown.guard(0, [&] { workspace_f32(kTile, Head::floats(s)); });
#pragma omp for schedule(dynamic)
    for (int64_t task = 0; task < s.B * s.heads; ++task)
      thrown.guard(task, [&] {
        backward(op, s, keys, task / s.heads, task % s.heads, dk + task * part, dv + task * part);
      });
  }
  thrown.rethrow();
  parallel_for(s.B * s.kv_heads * s.keys, [&](int64_t task) {
    const int64_t j = task % s.keys, kv = task / s.keys % s.kv_heads,
                  b = task / s.keys / s.kv_heads;
    const int64_t at = (b * s.heads + kv * per) * part + j * s.stride;
    add_heads(s, dk + at, part, op.dk.columns(kv * s.dim, (kv + 1) * s.dim), b * s.keys + j);
    add_heads(s, dv + at, part, op.dv.columns(kv * s.dim, (kv + 1) * s.dim), b * s.keys + j);
  });
}

}  // namespace ft::cpu
