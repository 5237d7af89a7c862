// Causal attention with grouped queries and an online softmax over tiles of keys (Milakov and Gimelshein 2018;
// Dao et al. 2022): memory grows with T, never with T x T.
#include "cpu/attention_common.h"

#include <limits>

namespace ft::cpu {

namespace {

struct ForwardTiles {
  std::vector<float> q, k, kt, v, o, scores, high, sum;
  explicit ForwardTiles(int64_t dim)
      : q(kTileRows * dim), k(q), kt(q), v(q), o(q), scores(kTileRows), high(kTileRows), sum(kTileRows) {}
};

// One query row against one tile of keys.
void meet(ForwardTiles& t, int64_t i, int64_t dim, float scale, int64_t from, int64_t to) {
  float *p = t.scores.data(), *o = &t.o[i * dim];
  scores_of(&t.q[i * dim], t.kt.data(), dim, scale, from, to, p);
  float high = t.high[i];
  for (int64_t j = from; j <= to; ++j) high = std::max(high, p[j]);
  const float shrink = t.sum[i] > 0 ? exp_f(t.high[i] - high) : 0.0f;
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t j = from; j <= to; ++j) {
    p[j] = exp_f(p[j] - high);
    sum += p[j];
  }
  t.sum[i] = t.sum[i] * shrink + sum;
  t.high[i] = high;
  for (int64_t d = 0; d < dim; ++d) o[d] *= shrink;
  for (int64_t j = from; j <= to; ++j) {
    const float pj = p[j], *vj = &t.v[j * dim];
#pragma omp simd
    for (int64_t d = 0; d < dim; ++d) o[d] += pj * vj[d];
  }
}

}  // namespace

template <>
void run(const ops::Attention& op, Stream) {
  const AttentionSizes s(op);
  const int64_t tiles = blocks_of(s.queries, kTileRows), T = op.q.rows();
  const int32_t* docs = op.docs.i32();
  float* lse = op.lse.f32();
#pragma omp parallel for schedule(dynamic)
  for (int64_t task = 0; task < s.B * s.heads * tiles; ++task) {
    const int64_t tile = task % tiles, h = task / tiles % s.heads, b = task / tiles / s.heads;
    const int64_t begin = tile * kTileRows, n = std::min(kTileRows, s.queries - begin), kv = s.kv_of(h);
    ForwardTiles t(s.dim);
    load_tile(op.q, h, s.dim, b * s.queries + begin, n, t.q.data());
    std::fill(t.high.begin(), t.high.end(), -std::numeric_limits<float>::infinity());
    int64_t first = s.keys;
    for (int64_t i = 0; i < n; ++i) first = std::min(first, keys_of(s, docs, b, begin + i).first);
    for (int64_t k0 = first / kTileRows * kTileRows; k0 <= s.offset + begin + n - 1; k0 += kTileRows) {
      const int64_t m = std::min(kTileRows, s.keys - k0);
      load_tile(op.k, kv, s.dim, b * s.keys + k0, m, t.k.data(), t.kt.data());
      load_tile(op.v, kv, s.dim, b * s.keys + k0, m, t.v.data());
      for (int64_t i = 0; i < n; ++i) {
        const Seen seen = keys_of(s, docs, b, begin + i);
        const int64_t from = std::max<int64_t>(seen.first - k0, 0), to = std::min(seen.last - k0, m - 1);
        if (from <= to) meet(t, i, s.dim, op.softmax_scale, from, to);
      }
    }
    const Tensor out = op.o.columns(h * s.dim, (h + 1) * s.dim);
    for (int64_t i = 0; i < n; ++i) {
      float* o = &t.o[i * s.dim];
      const float scale = op.out_scale / t.sum[i];
      for (int64_t d = 0; d < s.dim; ++d) o[d] *= scale;
      store(out, b * s.queries + begin + i, s.dim, o);
      lse[h * T + b * s.queries + begin + i] = t.high[i] + std::log(t.sum[i]);
    }
  }
}

}  // namespace ft::cpu
