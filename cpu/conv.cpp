// Causal depthwise convolution + SiLU; formulas and conventions in core/ops.h.
//   pre[t, c] = bias[c] + sum_s w[c, k-1-s] * scale(c) * x[t - s, c]  for lags s that stay in the document
//   dpre = dy * silu'(pre);  dx[t] = scale * sum_s w[k-1-s] dpre[t + s];  dw[k-1-s] = scale * sum_t dpre[t] x[t - s]
#include "cpu/common.h"

#include <vector>

namespace ft::cpu {

namespace {

// What both directions read: fp32 taps by lag, multiplied by their section's scale.
struct Taps {
  int64_t T, C, k, length;   // length: tokens of a sequence
  const float* taps;         // [k][C], lag 0 first
  const int32_t* docs;
  const Tensor& x;
  const std::optional<In>& history;

  // Token t - lag of the same sequence and document, as fp32; false when there is none.
  bool lagged(int64_t t, int64_t lag, float* to) const {
    const int64_t begin = t / length * length, from = t - lag;
    if (from < docs[t]) return false;
    if (from >= begin) return load(x, from, C, to), true;
    if (!history) return false;
    load(*history, (t / length) * (k - 1) + (k - 1) - (begin - from), C, to);   // k-1 rows a sequence, the last is begin - 1
    return true;
  }
};

template <class Op>
Taps prepare(const Op& op) {
  const int64_t C = op.x.cols(), k = op.w.cols();
  FT_CHECK(op.sections[0] + op.sections[1] + op.sections[2] == C, "conv1d: sections do not add up to {} channels", C);
  float* taps = workspace_f32(kWideA, k * C);
  for (int64_t c = 0; c < C; ++c) {
    const int section = c < op.sections[0] ? 0 : c < op.sections[0] + op.sections[1] ? 1 : 2;
    for (int64_t lag = 0; lag < k; ++lag) taps[lag * C + c] = op.w.f32()[c * k + k - 1 - lag] * op.scales[section];
  }
  return {op.x.rows(), C, k, op.x.rows() / op.sequences, taps, op.docs.i32(), op.x, op.history};
}

void pre_activation(const Taps& s, int64_t t, const float* bias, float* in, float* pre) {
  if (bias) std::memcpy(pre, bias, static_cast<size_t>(s.C) * sizeof(float));
  else std::fill_n(pre, s.C, 0.0f);
  for (int64_t lag = 0; lag < s.k; ++lag) {
    if (!s.lagged(t, lag, in)) continue;
    const float* tap = s.taps + lag * s.C;
    for (int64_t c = 0; c < s.C; ++c) pre[c] += tap[c] * in[c];
  }
}

// Gradient of the history: taps of the first k-1 tokens that reach before their sequence.
void history_gradient(const ops::Conv1dGrad& op, const Taps& s, const float* dpre) {
  float* out = op.dhistory->f32();
  for (int64_t b = 0; b < op.sequences; ++b)
    for (int64_t i = 0; i < s.k - 1; ++i) {
      float* to = out + (b * (s.k - 1) + i) * s.C;
      std::fill_n(to, s.C, 0.0f);
      for (int64_t lag = s.k - 1 - i; lag < s.k; ++lag) {
        const int64_t local = i - (s.k - 1) + lag, t = b * s.length + local;
        if (local >= s.length || t - lag < s.docs[t]) continue;
        for (int64_t c = 0; c < s.C; ++c) to[c] += s.taps[lag * s.C + c] * dpre[t * s.C + c];
      }
    }
}

}  // namespace

template <>
void run(const ops::Conv1d& op, Stream) {
  const Taps s = prepare(op);
  const float* bias = op.bias ? op.bias->f32() : nullptr;
#pragma omp parallel for schedule(static)
  for (int64_t t = 0; t < s.T; ++t) {
    float *in = workspace_f32(kRowA, s.C), *pre = workspace_f32(kRowB, s.C);
    pre_activation(s, t, bias, in, pre);
#pragma omp simd
    for (int64_t c = 0; c < s.C; ++c) pre[c] = silu(pre[c]);
    store(op.y, t, s.C, pre);
  }
}

template <>
void run(const ops::Conv1dGrad& op, Stream) {
  const Taps s = prepare(op);
  const float* bias = op.bias ? op.bias->f32() : nullptr;
  const int64_t C = s.C, k = s.k, blocks = blocks_of(s.T, kReduceBlock);
  float* dpre = workspace_f32(kWideB, s.T * C);
  float* partial = workspace_f32(kPartials, blocks * (k + 1) * C);   // dtaps [k][C], dbias [C] of each block
#pragma omp parallel for schedule(static)
  for (int64_t block = 0; block < blocks; ++block) {
    float *in = workspace_f32(kRowA, C), *dy = workspace_f32(kRowB, C);
    float* sums = partial + block * (k + 1) * C;
    std::fill_n(sums, (k + 1) * C, 0.0f);
    for (int64_t t = block * kReduceBlock; t < std::min(s.T, (block + 1) * kReduceBlock); ++t) {
      float* d = dpre + t * C;
      pre_activation(s, t, bias, in, d);
      load(op.dy, t, C, dy);
#pragma omp simd
      for (int64_t c = 0; c < C; ++c) d[c] = dy[c] * silu_slope(d[c]);
      for (int64_t lag = 0; lag < k; ++lag) {
        if (!s.lagged(t, lag, in)) continue;
        for (int64_t c = 0; c < C; ++c) sums[lag * C + c] += d[c] * in[c];
      }
      for (int64_t c = 0; c < C; ++c) sums[k * C + c] += d[c];
    }
  }
#pragma omp parallel for schedule(static)
  for (int64_t t = 0; t < s.T; ++t) {
    float* dx = workspace_f32(kRowA, C);
    std::fill_n(dx, C, 0.0f);
    const int64_t end = (t / s.length + 1) * s.length;
    for (int64_t lag = 0; lag < k && t + lag < end; ++lag) {
      if (t < s.docs[t + lag]) continue;
      for (int64_t c = 0; c < C; ++c) dx[c] += s.taps[lag * C + c] * dpre[(t + lag) * C + c];
    }
    store(op.dx, t, C, dx);
  }
  float* sums = workspace_f32(kWideC, (k + 1) * C);
  fold(partial, blocks, (k + 1) * C, Grad::Overwrite, 1, sums);
  const bool add = op.grad == Grad::Accumulate;
  for (int64_t c = 0; c < C; ++c) {
    const int section = c < op.sections[0] ? 0 : c < op.sections[0] + op.sections[1] ? 1 : 2;
    for (int64_t lag = 0; lag < k; ++lag) {
      float& to = op.dw.f32()[c * k + k - 1 - lag];
      to = (add ? to : 0) + op.scales[section] * sums[lag * C + c];
    }
    if (op.dbias) op.dbias->f32()[c] = (add ? op.dbias->f32()[c] : 0) + sums[k * C + c];
  }
  if (op.dhistory) history_gradient(op, s, dpre);
}

}  // namespace ft::cpu
