// SSD forward, chunk by chunk:  y_i = sum_j M_ij (C_i.B_j) dt_j x_j + in_i S C_i + D x_i
//                               S <- carry S + sum_j out_j dt_j x_j B_j^T
// A task walks one sequence with a few heads of one group, which share C B^T.
#include "cpu/ssd_common.h"

namespace ft::cpu {

namespace {

struct ForwardTile {
  SsdGroupChunk group;
  SsdHeadChunk head;
  float *x, *y, *state_t;  // [q, P], [q, P], [N, P]
  float *mixed, *states;   // [q, q] lower, a [P, N] for each head

  static int64_t floats(const SsdSizes& s) {
    return SsdGroupChunk::floats(s) + SsdHeadChunk::floats(s) + 2 * s.padded_q() * s.lp +
           padded(s.N) * s.lp + s.padded_q() * s.lq + kSsdHeadBlock * padded(s.P) * s.ln;
  }
  ForwardTile(const SsdSizes& s, float* memory) {
    Carver from{memory};
    group.carve(s, from), head.carve(s, from);
    x = from.take(s.padded_q() * s.lp), y = from.take(s.padded_q() * s.lp);
    state_t = from.take(padded(s.N) * s.lp), mixed = from.take(s.padded_q() * s.lq);
    states = from.take(kSsdHeadBlock * padded(s.P) * s.ln);
  }
};

void head_output(const SsdSizes& s, ForwardTile& t, const float* state) {
  const int64_t q = padded(t.group.q), P = padded(s.P), N = padded(s.N);
  SsdHeadChunk& k = t.head;
  if (k.in[0] != 0) {
    transpose(state, s.ln, P, N, t.state_t, s.lp);
    matmul(q, P, N, {t.group.c, s.ln, 1}, t.state_t, s.lp, t.y, s.lp, false);
  }
  for (int64_t i = 0; i < q; ++i) {
    float* y = t.y + i * s.lp;
    const float *x = t.x + i * s.lp, in = k.in[i];
    if (in == 0) std::fill_n(y, P, 0.0f);
#pragma omp simd
    for (int64_t p = 0; p < P; ++p) y[p] = in * y[p] + k.d * x[p];
  }
  for (int64_t anchor = 0; anchor < q; anchor += kPanel) {
    k.start_panel(anchor);
    for (int64_t i = anchor; i < anchor + kPanel; ++i) {
      k.decay_row(anchor, i);
      const float* w = t.group.scores + i * s.lq;
      float* mixed = t.mixed + i * s.lq;
#pragma omp simd
      for (int64_t j = 0; j < anchor + kPanel; ++j) mixed[j] = k.decay[j] * w[j] * k.dt[j];
    }
  }
  matmul<Shape::LowerLeft>(q, P, q, {t.mixed, s.lq, 1}, t.x, s.lp, t.y, s.lp, true);
}

// Scales x to out_j dt_j x_j on the way.
void advance_state(const SsdSizes& s, ForwardTile& t, float* state) {
  const SsdHeadChunk& k = t.head;
  const int64_t q = padded(t.group.q), P = padded(s.P), N = padded(s.N);
  for (int64_t j = 0; j < q; ++j)
    for (int64_t p = 0; p < P; ++p) t.x[j * s.lp + p] *= k.out[j] * k.dt[j];
  for (int64_t p = 0; p < P; ++p)
    for (int64_t n = 0; n < N; ++n) state[p * s.ln + n] *= k.carry;
  matmul(P, N, q, {t.x, 1, s.lp}, t.group.b, s.ln, state, s.ln, true);
}

void forward_task(const ops::Ssd& op, const SsdSizes& s, const SsdTask& task, ForwardTile& t) {
  const int64_t head_state = s.P * s.N, tile_state = padded(s.P) * s.ln;
  for (int64_t h = task.first; h < task.end; ++h) {
    float* state = t.states + (h - task.first) * tile_state;
    if (op.initial_state)
      load_state(s, op.initial_state->f32() + (task.sequence * s.H + h) * head_state, state);
    else std::fill_n(state, tile_state, 0.0f);
  }
  for (int64_t c = 0; c < s.chunks; ++c) {
    t.group.load_from(op.in, s, task, c);
    for (int64_t h = task.first; h < task.end; ++h) {
      float* state = t.states + (h - task.first) * tile_state;
      store_state(s, state,
                  op.states.f32() + ((task.sequence * s.chunks + c) * s.H + h) * head_state);
      t.head.load_from(op.in, t.group.begin, t.group.q, h);
      load_tile_rows(op.in.x, h * s.P, s.P, t.group.begin, t.group.q, s.lp, t.x);
      head_output(s, t, state);
      const Tensor y = op.y.columns(h * s.P, (h + 1) * s.P);
      for (int64_t i = 0; i < t.group.q; ++i) store_row(y, t.group.begin + i, s.P, t.y + i * s.lp);
      advance_state(s, t, state);
    }
  }
  if (!op.final_state) return;
  for (int64_t h = task.first; h < task.end; ++h)
    store_state(s, t.states + (h - task.first) * tile_state,
                op.final_state->f32() + (task.sequence * s.H + h) * head_state);
}

}  // namespace

template <>
void need(const ops::Ssd& op, WorkspaceNeed& n) {
  each_f32(n, {kTile}, ForwardTile::floats(SsdSizes(op.in)));
}

template <>
void run(const ops::Ssd& op, Stream) {
  const SsdSizes s(op.in);
  parallel_for(s.tasks(), [&](int64_t index) {
    ForwardTile tile(s, workspace_f32(kTile, ForwardTile::floats(s)));
    forward_task(op, s, SsdTask(s, index), tile);
  });
}

}  // namespace ft::cpu
