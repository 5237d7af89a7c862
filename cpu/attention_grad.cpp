// Attention backward from the saved log-sum-exp (Dao et al. 2022):
//   P_ij = exp(scale q_i.k_j - lse_i);  D_i = do_i . o_i;  dS_ij = P_ij (out_scale do_i.v_j - D_i)
//   dq_i = scale sum_j dS_ij k_j;  dk_j = scale sum_i dS_ij q_i;  dv_j = out_scale sum_i P_ij do_i
// One task owns a key head of a sequence, so dk and dv are summed over its query heads in a fixed order.
#include "cpu/attention_common.h"

namespace ft::cpu {

namespace {

struct BackwardTiles {
  std::vector<float> q, dout, o, dq, k, kt, v, vt, dk, dv, p, ds, lse, delta;
  explicit BackwardTiles(int64_t dim)
      : q(kTileRows * dim), dout(q), o(q), dq(q), k(q), kt(q), v(q), vt(q), dk(q), dv(q), p(kTileRows), ds(p), lse(p),
        delta(p) {}
};

void meet(const ops::AttentionGrad& op, BackwardTiles& t, int64_t i, int64_t dim, int64_t from, int64_t to) {
  float *p = t.p.data(), *ds = t.ds.data();
  const float *q = &t.q[i * dim], *g = &t.dout[i * dim];
  scores_of(q, t.kt.data(), dim, op.softmax_scale, from, to, p);
  scores_of(g, t.vt.data(), dim, op.out_scale, from, to, ds);
  const float lse = t.lse[i], delta = t.delta[i];
#pragma omp simd
  for (int64_t j = from; j <= to; ++j) {
    p[j] = exp_f(p[j] - lse);
    ds[j] = p[j] * (ds[j] - delta) * op.softmax_scale;
    p[j] *= op.out_scale;
  }
  float* dq = &t.dq[i * dim];
  for (int64_t j = from; j <= to; ++j) {
    const float dj = ds[j], pj = p[j], *kj = &t.k[j * dim];
    float *dk = &t.dk[j * dim], *dv = &t.dv[j * dim];
#pragma omp simd
    for (int64_t d = 0; d < dim; ++d) {
      dq[d] += dj * kj[d];
      dk[d] += dj * q[d];
      dv[d] += pj * g[d];
    }
  }
}

}  // namespace

template <>
void run(const ops::AttentionGrad& op, Stream) {
  const AttentionSizes s(op);
  const int64_t T = op.q.rows(), per = s.heads / s.kv_heads, row_size = s.dim;
  const int32_t* docs = op.docs.i32();
  const float* lse = op.lse.f32();
  float* wide_dq = workspace_f32(kWideA, T * s.heads * s.dim);   // [heads][T][dim]
  std::fill_n(wide_dq, T * s.heads * s.dim, 0.0f);
#pragma omp parallel for schedule(dynamic)
  for (int64_t task = 0; task < s.B * s.kv_heads; ++task) {
    const int64_t kv = task % s.kv_heads, b = task / s.kv_heads;
    BackwardTiles t(s.dim);
    for (int64_t k0 = 0; k0 < s.keys; k0 += kTileRows) {
      const int64_t m = std::min(kTileRows, s.keys - k0);
      load_tile(op.k, kv, s.dim, b * s.keys + k0, m, t.k.data(), t.kt.data());
      load_tile(op.v, kv, s.dim, b * s.keys + k0, m, t.v.data(), t.vt.data());
      std::fill(t.dk.begin(), t.dk.end(), 0.0f);
      std::fill(t.dv.begin(), t.dv.end(), 0.0f);
      const int64_t first_query = std::max<int64_t>(0, k0 - s.offset) / kTileRows * kTileRows;
      for (int64_t h = kv * per; h < (kv + 1) * per; ++h)
        for (int64_t q0 = first_query; q0 < s.queries; q0 += kTileRows) {
          const int64_t n = std::min(kTileRows, s.queries - q0), token = b * s.queries + q0;
          if (keys_of(s, docs, b, q0).first >= k0 + m) break;   // documents only move on
          load_tile(op.q, h, s.dim, token, n, t.q.data());
          load_tile(op.doo, h, s.dim, token, n, t.dout.data());
          load_tile(op.o, h, s.dim, token, n, t.o.data());
          std::fill(t.dq.begin(), t.dq.end(), 0.0f);
          for (int64_t i = 0; i < n; ++i) {
            float delta = 0;
            for (int64_t d = 0; d < s.dim; ++d) delta += t.dout[i * row_size + d] * t.o[i * row_size + d];
            t.delta[i] = delta;
            t.lse[i] = lse[h * T + token + i];
            const Seen seen = keys_of(s, docs, b, q0 + i);
            const int64_t from = std::max<int64_t>(seen.first - k0, 0), to = std::min(seen.last - k0, m - 1);
            if (from <= to) meet(op, t, i, s.dim, from, to);
          }
          float* dq = wide_dq + (h * T + token) * s.dim;
          for (int64_t i = 0; i < n * s.dim; ++i) dq[i] += t.dq[i];
        }
      const Tensor dk = op.dk.columns(kv * s.dim, (kv + 1) * s.dim), dv = op.dv.columns(kv * s.dim, (kv + 1) * s.dim);
      for (int64_t j = 0; j < m; ++j) {
        store(dk, b * s.keys + k0 + j, s.dim, &t.dk[j * s.dim]);
        store(dv, b * s.keys + k0 + j, s.dim, &t.dv[j * s.dim]);
      }
    }
  }
#pragma omp parallel for schedule(static)
  for (int64_t t = 0; t < T; ++t)
    for (int64_t h = 0; h < s.heads; ++h)
      store(op.dq.columns(h * s.dim, (h + 1) * s.dim), t, s.dim, wide_dq + (h * T + t) * s.dim);
}

}  // namespace ft::cpu
