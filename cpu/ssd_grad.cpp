// SSD backward: chunks in reverse, with K the gradient of the state that leaves the chunk.
//   dS_ij = dy_i.u_j (u = dt x);  T_ij = M_ij (C_i.B_j) dS_ij
//   du_j = sum_i M_ij (C_i.B_j) dy_i + out_j K B_j;   dx_j = dt_j du_j + D dy_j
//   dC_i = sum_j M_ij dS_ij B_j + in_i S^T dy_i;      dB_j = sum_i M_ij dS_ij C_i + out_j K^T u_j
//   d(dt A)_t = what flows over token t's decay
//             = sum_{j < t <= i} T_ij + sum_{i >= t} in_i dy_i.(S C_i) + sum_{j < t} out_j u_j.(K B_j)
//               + carry <K, S>;   dA_log = sum_t dt_t A d(dt A)_t
//   (Suffix sums of dcs are the same in exact numbers; here nothing cancels.)
//   K of the previous chunk = carry K + sum_i in_i dy_i C_i^T
// A task sums M dS over its heads before it meets B and C; the parts of tasks are folded in head
// order.
#include "cpu/ssd_common.h"

namespace ft::cpu {

namespace {

struct BackwardTile {
  SsdGroupChunk group;
  SsdHeadChunk head;
  float *x, *xt, *dy, *du, *scaled;  // [q, P] but xt [P, q]
  float *mixed, *ds, *ds_sum;        // [q, q] lower: M (C B^T); dS; sum over heads of M dS
  float *state, *kt, *through;       // [P, N], [N, P], [q, N]
  float *flow, *reach, *row;         // d(dt A) [q]; sum_{i >= t} T_ij of each j [q]; [P]

  static int64_t floats(const SsdSizes& s) {
    return SsdGroupChunk::floats(s) + SsdHeadChunk::floats(s) + 4 * s.padded_q() * s.lp +
           padded(s.P) * s.lq + 3 * s.padded_q() * s.lq + padded(s.P) * s.ln + padded(s.N) * s.lp +
           s.padded_q() * s.ln + 2 * s.padded_q() + s.lp;
  }
  BackwardTile(const SsdSizes& s, float* memory) {
    Carver from{memory};
    group.carve(s, from), head.carve(s, from);
    for (float** v : {&x, &dy, &du, &scaled}) *v = from.take(s.padded_q() * s.lp);
    xt = from.take(padded(s.P) * s.lq);
    for (float** v : {&mixed, &ds, &ds_sum}) *v = from.take(s.padded_q() * s.lq);
    state = from.take(padded(s.P) * s.ln), kt = from.take(padded(s.N) * s.lp);
    through = from.take(s.padded_q() * s.ln);
    flow = from.take(s.padded_q()), reach = from.take(s.padded_q()), row = from.take(s.lp);
  }
};

// Sums of one head over tokens.
struct HeadSums {
  double da_log, dd, dbias;
};

float dot(const float* a, const float* b, int64_t n) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

// The part inside the chunk: M, dS, the flow from earlier tokens to later ones; du. Rows go
// upwards: where row t is reached, the later ones have added what they draw from each column.
void inside(const SsdSizes& s, BackwardTile& t) {
  SsdHeadChunk& k = t.head;
  const int64_t q = padded(t.group.q), P = padded(s.P);
  transpose(t.x, s.lp, q, P, t.xt, s.lq);
  matmul<Shape::LowerResult>(q, q, P, {t.dy, s.lp, 1}, t.xt, s.lq, t.ds, s.lq, false);
  std::fill_n(t.reach, q, 0.0f);
  for (int64_t anchor = q - kPanel; anchor >= 0; anchor -= kPanel) {
    k.start_panel(anchor);
    for (int64_t i = anchor + kPanel - 1; i >= anchor; --i) {
      k.decay_row(anchor, i);
      // M_ii = 1 is set below: T_ii flows over no decay. Nor does column i, from here on.
      k.decay[i] = t.reach[i] = 0;
      const float *w = t.group.scores + i * s.lq, *ds = t.ds + i * s.lq, *m = k.decay, *dt = k.dt;
      float *mixed = t.mixed + i * s.lq, *ds_sum = t.ds_sum + i * s.lq, *reach = t.reach, flow = 0;
#pragma omp simd reduction(+ : flow)
      for (int64_t j = 0; j < anchor + kPanel; ++j) {
        const float e = m[j] * dt[j] * ds[j];
        ds_sum[j] += e;
        mixed[j] = m[j] * w[j];
        reach[j] += e * w[j];
        flow += reach[j];
      }
      t.flow[i] = flow;
      ds_sum[i] += dt[i] * ds[i];
      mixed[i] = w[i];
    }
  }
  matmul<Shape::UpperLeft>(q, P, q, {t.mixed, 1, s.lq}, t.dy, s.lp, t.du, s.lp, false);
}

// The part through K, the gradient of the state that leaves.
void through_leaving(const SsdSizes& s, BackwardTile& t, const float* K, float* db) {
  const SsdHeadChunk& k = t.head;
  const int64_t q = padded(t.group.q), P = padded(s.P), N = padded(s.N);
  transpose(K, s.ln, P, N, t.kt, s.lp);
  matmul(q, P, N, {t.group.b, s.ln, 1}, t.kt, s.lp, t.scaled, s.lp, false);
  double before = 0;  // of the state that entered, then of earlier tokens, too
  for (int64_t p = 0; k.carry != 0 && p < P; ++p)
    before += k.carry * dot(K + p * s.ln, t.state + p * s.ln, N);
  for (int64_t i = 0; i < q; ++i) {
    float *kb = t.scaled + i * s.lp, *du = t.du + i * s.lp;
    const float *x = t.x + i * s.lp, out = k.out[i], u = out * k.dt[i];
    t.flow[i] += static_cast<float>(before);
    before += u * dot(x, kb, P);
#pragma omp simd
    for (int64_t p = 0; p < P; ++p) du[p] += out * kb[p], kb[p] = u * x[p];
  }
  matmul(q, N, P, {t.scaled, s.lp, 1}, K, s.ln, db, s.ln, true);
}

// The part through the state that enters, then K of the previous chunk.
void through_entering(const SsdSizes& s, BackwardTile& t, float* K, float* dc) {
  const SsdHeadChunk& k = t.head;
  const int64_t q = padded(t.group.q), P = padded(s.P), N = padded(s.N);
  for (int64_t p = 0; p < P; ++p)
    for (int64_t n = 0; n < N; ++n) K[p * s.ln + n] *= k.carry;
  if (k.in[0] == 0) return;
  for (int64_t i = 0; i < q; ++i)
    for (int64_t p = 0; p < P; ++p) t.scaled[i * s.lp + p] = k.in[i] * t.dy[i * s.lp + p];
  matmul(q, N, P, {t.scaled, s.lp, 1}, t.state, s.ln, t.through, s.ln, false);
  double after = 0;  // of this token and later ones
  for (int64_t i = q - 1; i >= 0; --i) {
    const float *v = t.through + i * s.ln, *c = t.group.c + i * s.ln;
    float* dci = dc + i * s.ln;
    after += dot(v, c, N);
    t.flow[i] += static_cast<float>(after);
#pragma omp simd
    for (int64_t n = 0; n < N; ++n) dci[n] += v[n];
  }
  matmul(P, N, q, {t.scaled, 1, s.lp}, t.group.c, s.ln, K, s.ln, true);
}

// dx, d dt and the sums over tokens, from du and the flow.
void finish_head(const ops::SsdGrad& op, const SsdSizes& s, int64_t h, BackwardTile& t,
                 HeadSums& sums) {
  const SsdHeadChunk& k = t.head;
  const Tensor dx = op.dx.columns(h * s.P, (h + 1) * s.P), ddt = op.ddt.columns(h, h + 1);
  for (int64_t i = 0; i < t.group.q; ++i) {
    const float *x = t.x + i * s.lp, *du = t.du + i * s.lp, *g = t.dy + i * s.lp;
    const float dt = k.dt[i];
#pragma omp simd
    for (int64_t p = 0; p < s.P; ++p) t.row[p] = dt * du[p] + k.d * g[p];
    store_row(dx, t.group.begin + i, s.P, t.row);
    const float by_decay = t.flow[i] * k.a;
    const float draw =
        (dot(du, x, padded(s.P)) + by_decay) * k.slope(i, op.in.limits.min, op.in.limits.max);
    const float scaled = draw * op.in.limits.scale;
    store(ddt, t.group.begin + i, 1, &scaled);
    sums.da_log += dt * by_decay;
    sums.dd += dot(g, x, padded(s.P));
    sums.dbias += draw;
  }
}

// One chunk of a task; db and dc [q, N] become the parts of its heads.
void task_chunk(const ops::SsdGrad& op, const SsdSizes& s, const SsdTask& task, int64_t c,
                BackwardTile& t, float* leaving, float* db, float* dc, HeadSums* sums) {
  t.group.load_from(op.in, s, task, c);
  const int64_t q = padded(t.group.q), N = padded(s.N);
  std::fill_n(t.ds_sum, q * s.lq, 0.0f);
  std::fill_n(db, q * s.ln, 0.0f);
  std::fill_n(dc, q * s.ln, 0.0f);
  for (int64_t h = task.first; h < task.end; ++h) {
    const int64_t own = task.sequence * s.H + h;
    float* K = leaving + own * padded(s.P) * s.ln;
    t.head.load_from(op.in, t.group.begin, t.group.q, h);
    load_tile_rows(op.in.x, h * s.P, s.P, t.group.begin, t.group.q, s.lp, t.x);
    load_tile_rows(op.dy, h * s.P, s.P, t.group.begin, t.group.q, s.lp, t.dy);
    load_state(s, op.states.f32() + ((task.sequence * s.chunks + c) * s.H + h) * s.P * s.N,
               t.state);
    inside(s, t);
    through_leaving(s, t, K, db);
    through_entering(s, t, K, dc);
    finish_head(op, s, h, t, sums[own]);
  }
  matmul<Shape::LowerLeft>(q, N, q, {t.ds_sum, s.lq, 1}, t.group.b, s.ln, dc, s.ln, true);
  matmul<Shape::UpperLeft>(q, N, q, {t.ds_sum, 1, s.lq}, t.group.c, s.ln, db, s.ln, true);
}

// db, dc of one chunk: the parts of each group's tasks, in head order.
void fold_parts(const ops::SsdGrad& op, const SsdSizes& s, int64_t c, const float* parts) {
  const int64_t q = std::min(s.Q, s.length - c * s.Q), tile = s.padded_q() * s.ln;
  parallel_for(s.B * q, [&](int64_t item) {
    const int64_t sequence = item / q, i = item % q, token = sequence * s.length + c * s.Q + i;
    float *db = workspace_f32(kRowA, s.N), *dc = workspace_f32(kRowB, s.N);
    for (int64_t g = 0; g < s.G; ++g) {
      std::fill_n(db, s.N, 0.0f);
      std::fill_n(dc, s.N, 0.0f);
      for (int64_t block = 0; block < s.blocks; ++block) {
        const float* from = parts + ((sequence * s.G + g) * s.blocks + block) * 2 * tile + i * s.ln;
#pragma omp simd
        for (int64_t n = 0; n < s.N; ++n) db[n] += from[n], dc[n] += from[tile + n];
      }
      store_row(op.db.columns(g * s.N, (g + 1) * s.N), token, s.N, db);
      store_row(op.dc.columns(g * s.N, (g + 1) * s.N), token, s.N, dc);
    }
  });
}

void fold_sums(const ops::SsdGrad& op, const SsdSizes& s, const HeadSums* sums) {
  for (int64_t h = 0; h < s.H; ++h) {
    HeadSums total{};
    for (int64_t b = 0; b < s.B; ++b) {
      const HeadSums& one = sums[b * s.H + h];
      total.da_log += one.da_log, total.dd += one.dd, total.dbias += one.dbias;
    }
    const auto put_sum = [&](const Out& out, double value) {
      float& to = out.f32()[h];
      to = static_cast<float>(op.grad == Grad::Accumulate ? to + value : value);
    };
    put_sum(op.da_log, total.da_log), put_sum(op.dd, total.dd), put_sum(op.ddt_bias, total.dbias);
  }
}

}  // namespace

template <>
void need(const ops::SsdGrad& op, WorkspaceNeed& n) {
  const SsdSizes s(op.in);
  main_f32(n, kWideA, s.B * s.H * padded(s.P) * s.ln);
  main_f32(n, kWideB, s.tasks() * 2 * s.padded_q() * s.ln);
  n.main(kWideC, s.B * s.H * static_cast<int64_t>(sizeof(HeadSums)));
  each_f32(n, {kTile}, BackwardTile::floats(s));
  each_f32(n, {kRowA, kRowB}, s.N);
}

template <>
void run(const ops::SsdGrad& op, Stream) {
  const SsdSizes s(op.in);
  const int64_t tile_state = padded(s.P) * s.ln, head_state = s.P * s.N, tile = s.padded_q() * s.ln;
  float* leaving = workspace_f32(kWideA, s.B * s.H * tile_state);
  float* parts = workspace_f32(kWideB, s.tasks() * 2 * tile);
  auto* sums =
      static_cast<HeadSums*>(workspace(kWideC, static_cast<size_t>(s.B * s.H) * sizeof(HeadSums)));
  std::fill_n(sums, s.B * s.H, HeadSums{});
  std::fill_n(leaving, s.B * s.H * tile_state, 0.0f);
  for (int64_t own = 0; op.dfinal_state && own < s.B * s.H; ++own)
    load_state(s, op.dfinal_state->f32() + own * head_state, leaving + own * tile_state);
  for (int64_t c = s.chunks - 1; c >= 0; --c) {
    parallel_for(s.tasks(), [&](int64_t index) {
      BackwardTile t(s, workspace_f32(kTile, BackwardTile::floats(s)));
      float* part = parts + index * 2 * tile;
      task_chunk(op, s, SsdTask(s, index), c, t, leaving, part, part + tile, sums);
    });
    fold_parts(op, s, c, parts);
  }
  for (int64_t own = 0; op.dinitial_state && own < s.B * s.H; ++own)
    store_state(s, leaving + own * tile_state, op.dinitial_state->f32() + own * head_state);
  fold_sums(op, s, sums);
}

}  // namespace ft::cpu
