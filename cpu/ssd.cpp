// SSD forward, chunk by chunk:  y_i = sum_j M_ij (C_i.B_j) dt_j x_j + in_i S C_i + D x_i
//                               S <- carry S + sum_j out_j dt_j x_j B_j^T
#include "cpu/ssd_common.h"

namespace ft::cpu {

namespace {

struct ForwardTile {
  SsdChunk chunk;
  std::vector<float> scores, y;
};

// y of token i into tile.y.
void token_output(const SsdSizes& s, ForwardTile& tile, const float* state, int64_t i) {
  const SsdChunk& k = tile.chunk;
  const float* ci = &k.c[i * s.N];
  float *w = tile.scores.data(), *y = tile.y.data();
  const int64_t from = k.first[i];
  std::fill(w + from, w + i + 1, 0.0f);
  for (int64_t n = 0; n < s.N; ++n) {
    const float cn = ci[n], *bn = &k.bt[n * s.Q];
#pragma omp simd
    for (int64_t j = from; j <= i; ++j) w[j] += cn * bn[j];
  }
#pragma omp simd
  for (int64_t j = from; j <= i; ++j) w[j] *= exp_f(std::min(0.0f, k.cs[i] - k.cs[j])) * k.dt[j];
  for (int64_t p = 0; p < s.P; ++p) y[p] = k.d * k.x[i * s.P + p];
  for (int64_t j = from; j <= i; ++j) {
    const float wj = w[j], *xj = &k.x[j * s.P];
#pragma omp simd
    for (int64_t p = 0; p < s.P; ++p) y[p] += wj * xj[p];
  }
  if (k.in[i] == 0) return;
  for (int64_t p = 0; p < s.P; ++p) {
    const float* sp = state + p * s.N;
    float dot = 0;
#pragma omp simd reduction(+ : dot)
    for (int64_t n = 0; n < s.N; ++n) dot += sp[n] * ci[n];
    y[p] += k.in[i] * dot;
  }
}

void advance_state(const SsdSizes& s, const SsdChunk& k, float* state) {
  for (int64_t i = 0; i < s.P * s.N; ++i) state[i] *= k.carry;
  for (int64_t j = k.first[k.q - 1]; j < k.q; ++j) {
    const float f = k.out[j] * k.dt[j], *bj = &k.b[j * s.N];
    for (int64_t p = 0; p < s.P; ++p) {
      const float u = f * k.x[j * s.P + p];
      float* sp = state + p * s.N;
#pragma omp simd
      for (int64_t n = 0; n < s.N; ++n) sp[n] += u * bj[n];
    }
  }
}

}  // namespace

template <>
void run(const ops::Ssd& op, Stream) {
  const SsdSizes s(op);
  FT_CHECK(s.H % s.G == 0 && op.x.cols() == s.H * s.P && op.states.rows() == s.B * s.chunks,
           "ssd: {} heads, {} groups, {} columns, {} rows of states", s.H, s.G, op.x.cols(), op.states.rows());
  const int64_t head_state = s.P * s.N;
#pragma omp parallel for schedule(static)
  for (int64_t task = 0; task < s.B * s.H; ++task) {
    thread_local ForwardTile tile;
    const int64_t sequence = task / s.H, h = task % s.H;
    tile.scores.resize(s.Q), tile.y.resize(s.P);
    float* running = workspace_f32(kTile, head_state);
    std::fill_n(running, head_state, 0.0f);
    if (op.initial_state)
      std::memcpy(running, op.initial_state->f32() + (sequence * s.H + h) * head_state,
                  static_cast<size_t>(head_state) * sizeof(float));
    for (int64_t c = 0; c < s.chunks; ++c) {
      float* saved = op.states.f32() + ((sequence * s.chunks + c) * s.H + h) * head_state;
      std::memcpy(saved, running, static_cast<size_t>(head_state) * sizeof(float));
      tile.chunk.load_from(op, s, sequence, h, c);
      const Tensor y = op.y.columns(h * s.P, (h + 1) * s.P);
      for (int64_t i = 0; i < tile.chunk.q; ++i) {
        token_output(s, tile, running, i);
        store(y, tile.chunk.begin + i, s.P, tile.y.data());
      }
      advance_state(s, tile.chunk, running);
    }
    if (op.final_state)
      std::memcpy(op.final_state->f32() + (sequence * s.H + h) * head_state, running,
                  static_cast<size_t>(head_state) * sizeof(float));
  }
}

}  // namespace ft::cpu
