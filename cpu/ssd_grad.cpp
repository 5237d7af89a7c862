// SSD backward: chunks in reverse, with K the gradient of the state that leaves the chunk.
//   dS_ij = dy_i.u_j (u = dt x);  T_ij = M_ij (C_i.B_j) dS_ij
//   du_j = sum_i M_ij (C_i.B_j) dy_i + out_j K B_j;   dx_j = dt_j du_j + D dy_j
//   dC_i = sum_j M_ij dS_ij B_j + in_i S^T dy_i;      dB_j = sum_i M_ij dS_ij C_i + out_j K^T u_j
//   dcs_i = sum_j T_ij - sum_j T_ji + in_i dy_i.(S C_i) - out_i u_i.(K B_i)
//   dcs_last += sum_j out_j u_j.(K B_j) + carry <K, S>;  d(dt A)_t = suffix sum of dcs within the document
//   K of the previous chunk = carry K + sum_i in_i dy_i C_i^T
// The heads of a group share B and C: their parts are kept apart and folded in head order.
#include "cpu/ssd_common.h"

namespace ft::cpu {

namespace {

struct BackwardTile {
  SsdChunk k;
  std::vector<float> dy, du, scores, ds, dcs, row;
};

// Sums of one head over tokens.
struct HeadSums {
  double da = 0, dd = 0, dbias = 0;
};

// The part inside the chunk: rows i of M, C B^T and dS.
void inside(const SsdSizes& s, BackwardTile& t, float* db, float* dc) {
  const SsdChunk& k = t.k;
  for (int64_t i = 0; i < k.q; ++i) {
    const int64_t from = k.first[i];
    float *w = t.scores.data(), *ds = t.ds.data();
    const float *ci = &k.c[i * s.N], *dyi = &t.dy[i * s.P];
    std::fill(w + from, w + i + 1, 0.0f);
    for (int64_t n = 0; n < s.N; ++n) {
      const float cn = ci[n], *bn = &k.bt[n * s.Q];
#pragma omp simd
      for (int64_t j = from; j <= i; ++j) w[j] += cn * bn[j];
    }
    float row_sum = 0;
    for (int64_t j = from; j <= i; ++j) {
      const float* xj = &k.x[j * s.P];
      float dot = 0;
#pragma omp simd reduction(+ : dot)
      for (int64_t p = 0; p < s.P; ++p) dot += dyi[p] * xj[p];
      ds[j] = dot * k.dt[j];
    }
#pragma omp simd reduction(+ : row_sum)
    for (int64_t j = from; j <= i; ++j) {
      const float m = exp_f(std::min(0.0f, k.cs[i] - k.cs[j]));
      w[j] *= m;
      const float both = w[j] * ds[j];
      ds[j] *= m;
      t.dcs[j] -= both;
      row_sum += both;
    }
    t.dcs[i] += row_sum;
    float* dci = dc + i * s.N;
    for (int64_t j = from; j <= i; ++j) {
      float *duj = &t.du[j * s.P], *dbj = db + j * s.N;
      const float wj = w[j], dj = ds[j], *bj = &k.b[j * s.N];
#pragma omp simd
      for (int64_t p = 0; p < s.P; ++p) duj[p] += wj * dyi[p];
#pragma omp simd
      for (int64_t n = 0; n < s.N; ++n) {
        dci[n] += dj * bj[n];
        dbj[n] += dj * ci[n];
      }
    }
  }
}

// The parts through the state that enters (S) and the gradient of the one that leaves (K).
void through_states(const SsdSizes& s, BackwardTile& t, const float* state, const float* K, float* db, float* dc) {
  const SsdChunk& k = t.k;
  const int64_t last = k.q - 1;
  float leaving = 0;
  for (int64_t i = 0; i < k.q; ++i) {
    const float *bi = &k.b[i * s.N], *ci = &k.c[i * s.N];
    if (k.out[i] != 0) {
      float through = 0;
      for (int64_t p = 0; p < s.P; ++p) {
        const float *kp = K + p * s.N, u = k.dt[i] * k.x[i * s.P + p] * k.out[i];
        float dot = 0;
#pragma omp simd reduction(+ : dot)
        for (int64_t n = 0; n < s.N; ++n) dot += kp[n] * bi[n];
        t.du[i * s.P + p] += k.out[i] * dot;
        through += u * dot;
        float* dbi = db + i * s.N;
#pragma omp simd
        for (int64_t n = 0; n < s.N; ++n) dbi[n] += u * kp[n];
      }
      t.dcs[i] -= through;
      leaving += through;
    }
    if (k.in[i] != 0) {
      float through = 0;
      for (int64_t p = 0; p < s.P; ++p) {
        const float *sp = state + p * s.N, g = k.in[i] * t.dy[i * s.P + p];
        float dot = 0, *dci = dc + i * s.N;
#pragma omp simd reduction(+ : dot)
        for (int64_t n = 0; n < s.N; ++n) dot += sp[n] * ci[n];
        through += g * dot;
#pragma omp simd
        for (int64_t n = 0; n < s.N; ++n) dci[n] += g * sp[n];
      }
      t.dcs[i] += through;
    }
  }
  if (k.carry != 0) {
    float dot = 0;
#pragma omp simd reduction(+ : dot)
    for (int64_t i = 0; i < s.P * s.N; ++i) dot += K[i] * state[i];
    leaving += k.carry * dot;
  }
  t.dcs[last] += leaving;
}

void previous_state_gradient(const SsdSizes& s, const BackwardTile& t, float* K) {
  const SsdChunk& k = t.k;
  for (int64_t i = 0; i < s.P * s.N; ++i) K[i] *= k.carry;
  for (int64_t i = 0; i < k.q && k.in[i] != 0; ++i)
    for (int64_t p = 0; p < s.P; ++p) {
      const float g = k.in[i] * t.dy[i * s.P + p], *ci = &k.c[i * s.N];
      float* kp = K + p * s.N;
#pragma omp simd
      for (int64_t n = 0; n < s.N; ++n) kp[n] += g * ci[n];
    }
}

void head_chunk(const ops::SsdGrad& op, const SsdSizes& s, int64_t sequence, int64_t h, int64_t c, BackwardTile& t,
                float* K, float* db, float* dc, HeadSums& sums) {
  t.k.load_from(op, s, sequence, h, c);
  const SsdChunk& k = t.k;
  t.dy.resize(s.Q * s.P), t.du.assign(s.Q * s.P, 0), t.dcs.assign(s.Q, 0);
  t.scores.resize(s.Q), t.ds.resize(s.Q), t.row.resize(s.P);
  std::fill_n(db, s.Q * s.N, 0.0f);
  std::fill_n(dc, s.Q * s.N, 0.0f);
  const Tensor dy = op.dy.columns(h * s.P, (h + 1) * s.P);
  for (int64_t i = 0; i < k.q; ++i) load(dy, k.begin + i, s.P, &t.dy[i * s.P]);
  const float* state = op.states.f32() + ((sequence * s.chunks + c) * s.H + h) * s.P * s.N;
  inside(s, t, db, dc);
  through_states(s, t, state, K, db, dc);
  previous_state_gradient(s, t, K);

  const Tensor dx = op.dx.columns(h * s.P, (h + 1) * s.P), ddt = op.ddt.columns(h, h + 1);
  float suffix = 0;
  for (int64_t i = k.q - 1; i >= 0; --i) {
    // The last token of a document inside the chunk: nothing flows back from the next one.
    if (i + 1 < k.q && k.first[i + 1] == i + 1) suffix = 0;
    suffix += t.dcs[i];
    const float *x = &k.x[i * s.P], *du = &t.du[i * s.P], *g = &t.dy[i * s.P];
    float by_dt = 0, by_d = 0;
    for (int64_t p = 0; p < s.P; ++p) {
      by_dt += du[p] * x[p];
      by_d += g[p] * x[p];
      t.row[p] = k.dt[i] * du[p] + k.d * g[p];
    }
    store(dx, k.begin + i, s.P, t.row.data());
    const float draw = (by_dt + k.a * suffix) * k.slope(i, op.dt_min, op.dt_max), scaled = draw * op.dt_scale;
    store(ddt, k.begin + i, 1, &scaled);
    sums.da += static_cast<double>(suffix) * k.dt[i] * k.a;   // of A_log: A dA
    sums.dd += by_d;
    sums.dbias += draw;
  }
}

// db, dc of one chunk: the heads' parts of each group, in head order.
void fold_heads(const ops::SsdGrad& op, const SsdSizes& s, int64_t c, const float* parts) {
  const int64_t q = std::min(s.Q, s.length - c * s.Q), per = s.H / s.G, tile = s.Q * s.N;
#pragma omp parallel for schedule(static)
  for (int64_t task = 0; task < s.B * q; ++task) {
    const int64_t sequence = task / q, i = task % q, token = sequence * s.length + c * s.Q + i;
    float *b = workspace_f32(kRowA, s.G * s.N), *cc = workspace_f32(kRowB, s.G * s.N);
    std::fill_n(b, s.G * s.N, 0.0f);
    std::fill_n(cc, s.G * s.N, 0.0f);
    for (int64_t h = 0; h < s.H; ++h) {
      const float* from = parts + (sequence * s.H + h) * 2 * tile + i * s.N;
      const int64_t to = h / per * s.N;
      for (int64_t n = 0; n < s.N; ++n) b[to + n] += from[n], cc[to + n] += from[tile + n];
    }
    store(op.db, token, s.G * s.N, b);
    store(op.dc, token, s.G * s.N, cc);
  }
}

}  // namespace

template <>
void run(const ops::SsdGrad& op, Stream) {
  const SsdSizes s(op);
  const int64_t head_state = s.P * s.N, tile = s.Q * s.N, tasks = s.B * s.H;
  float* K = workspace_f32(kWideA, tasks * head_state);
  float* parts = workspace_f32(kWideB, tasks * 2 * tile);
  thread_local std::vector<HeadSums> all_sums;
  all_sums.assign(static_cast<size_t>(tasks), {});
  HeadSums* sums = all_sums.data();
  if (op.dfinal_state) std::memcpy(K, op.dfinal_state->data, static_cast<size_t>(tasks * head_state) * sizeof(float));
  else std::fill_n(K, tasks * head_state, 0.0f);
  for (int64_t c = s.chunks - 1; c >= 0; --c) {
#pragma omp parallel for schedule(static)
    for (int64_t task = 0; task < tasks; ++task) {
      thread_local BackwardTile t;
      head_chunk(op, s, task / s.H, task % s.H, c, t, K + task * head_state, parts + task * 2 * tile,
                 parts + task * 2 * tile + tile, sums[task]);
    }
    fold_heads(op, s, c, parts);
  }
  if (op.dinitial_state)
    std::memcpy(op.dinitial_state->data, K, static_cast<size_t>(tasks * head_state) * sizeof(float));
  for (int64_t h = 0; h < s.H; ++h) {
    HeadSums total;
    for (int64_t b = 0; b < s.B; ++b) {
      const HeadSums& one = sums[b * s.H + h];
      total.da += one.da, total.dd += one.dd, total.dbias += one.dbias;
    }
    const auto put_sum = [&](const Out& out, double value) {
      float& to = out.f32()[h];
      to = static_cast<float>(op.grad == Grad::Accumulate ? to + value : value);
    };
    put_sum(op.da_log, total.da), put_sum(op.dd, total.dd), put_sum(op.ddt_bias, total.dbias);
  }
}

}  // namespace ft::cpu
