// Causal attention with grouped queries and an online softmax over tiles of keys (Milakov and
// Gimelshein 2018; Dao et al. 2022): memory grows with T, never with T x T.
#include "cpu/attention_common.h"

#include <limits>

namespace ft::cpu {

namespace {

// What a tile of queries has gathered so far: o = sum_j exp(score_j - high) v_j, sum = sum_j
// exp(score_j - high).
struct QueryTile {
  float *q, *o, *p, *high, *sum;
  static int64_t floats(const AttentionSizes& s) {
    return 2 * s.tile() + kTileRows * kTileStride + 2 * kTileRows;
  }
  explicit QueryTile(const AttentionSizes& s) {
    const int64_t scores = kTileRows * kTileStride;
    q = workspace_f32(kTile, floats(s));
    o = q + s.tile(), p = o + s.tile(), high = p + scores, sum = high + kTileRows;
    std::fill_n(o, s.tile(), 0.0f);
    std::fill_n(high, kTileRows, -std::numeric_limits<float>::infinity());
    std::fill_n(sum, kTileRows, 0.0f);
  }
};

// Scores of a row become weights; what was gathered shrinks to the new maximum.
void rescale(QueryTile& t, const AttentionSizes& s, int64_t i, int64_t from, int64_t to) {
  float* p = t.p + i * kTileStride;
  if (from < to) {
    float high = t.high[i], sum = 0;
#pragma omp simd reduction(max : high)
    for (int64_t j = from; j < to; ++j) high = std::max(high, p[j]);
    const float shrink = t.sum[i] > 0 ? exp_f(t.high[i] - high) : 1.0f;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = from; j < to; ++j) {
      p[j] = exp_f(p[j] - high);
      sum += p[j];
    }
    t.sum[i] = t.sum[i] * shrink + sum;
    t.high[i] = high;
    if (shrink != 1.0f)
      for (int64_t d = 0; d < s.stride; ++d) t.o[i * s.stride + d] *= shrink;
  }
  std::fill(p, p + from, 0.0f);
  std::fill(p + to, p + kTileRows, 0.0f);
}

void attend_tile(QueryTile& t, const AttentionSizes& s, const Reach& r, const float* kt,
                 const float* v) {
  scores_of(s, r, t.q, kt, t.p);
  for (int64_t i = 0; i < kTileRows; ++i)
    if (r.row_from[i / 4] < r.row_to[i / 4]) rescale(t, s, i, r.from[i], r.to[i]);
  add_over_keys(s, r, t.p, v, t.o);
}

// One tile of queries of one head: the last ones see most, so they go first.
void attend(const ops::Attention& op, const AttentionSizes& s, const float* kts, const float* vs,
            int64_t task) {
  const int64_t tile = s.query_tiles - 1 - task / (s.B * s.heads), h = task % s.heads,
                b = task / s.heads % s.B;
  const int64_t q0 = tile * kTileRows, n = std::min(kTileRows, s.queries - q0),
                token = b * s.queries + q0;
  const int32_t* docs = op.in.docs.i32();
  float* lse = op.lse.f32();
  QueryTile t(s);
  load_tile(s, op.in.q, h, token, n, op.in.softmax_scale, t.q);
  const int64_t first = first_key(s, docs, b, q0), past = s.offset + q0 + n;
  const int64_t keys = (b * s.kv_heads + s.kv_of(h)) * s.key_tiles;
  for (int64_t k = first / kTileRows; k * kTileRows < past; ++k) {
    const int64_t k0 = k * kTileRows;
    attend_tile(t, s, reach(s, docs, b, q0, n, k0, std::min(kTileRows, s.keys - k0)),
                kts + (keys + k) * s.transposed_tile(), vs + (keys + k) * s.tile());
  }
  const Tensor out = op.o.columns(h * s.dim, (h + 1) * s.dim);
  for (int64_t i = 0; i < n; ++i) {
    float* o = t.o + i * s.stride;
    const float scale = op.in.out_scale / t.sum[i];
    for (int64_t d = 0; d < s.dim; ++d) o[d] *= scale;
    store(out, token + i, s.dim, o);
    lse[h * op.in.q.rows() + token + i] = t.high[i] + std::log(t.sum[i]);
  }
}

}  // namespace

template <>
void need(const ops::Attention& op, WorkspaceNeed& n) {
  const AttentionSizes s(op.in);
  const int64_t key_tiles = s.B * s.kv_heads * s.key_tiles;
  main_f32(n, kWideA, key_tiles * s.transposed_tile());
  main_f32(n, kWideB, key_tiles * s.tile());
  each_f32(n, {kTile}, std::max(s.tile(), QueryTile::floats(s)));
}

template <>
void run(const ops::Attention& op, Stream) {
  const AttentionSizes s(op.in);
  const int64_t key_tiles = s.B * s.kv_heads * s.key_tiles;
  float* kts = workspace_f32(
      kWideA, key_tiles * s.transposed_tile());  // keys as columns, once for all heads
  float* vs = workspace_f32(kWideB, key_tiles * s.tile());
  parallel_for(key_tiles, [&](int64_t task) {
    const int64_t tile = task % s.key_tiles, kv = task / s.key_tiles % s.kv_heads,
                  b = task / s.key_tiles / s.kv_heads;
    load_keys(s, op.in.k, b, kv, tile, workspace_f32(kTile, s.tile()),
              kts + task * s.transposed_tile());
    load_keys(s, op.in.v, b, kv, tile, vs + task * s.tile(), nullptr);
  });
  Thrown thrown;
#pragma omp parallel
  {
    // Every thread's workspace has its size, whichever tasks it will get.
    thrown.guard(0, [&] { const QueryTile own(s); });
#pragma omp for schedule(dynamic)
    for (int64_t task = 0; task < s.B * s.heads * s.query_tiles; ++task)
      thrown.guard(task, [&] { attend(op, s, kts, vs, task); });
  }
  thrown.rethrow();
}

}  // namespace ft::cpu
