// One chunk of one head, widened to fp32. Names follow the comment of ops::Ssd; a chunk has q <= chunk tokens.
//   cs_i    inclusive prefix sum of dt A inside the chunk
//   M_ij    exp(cs_i - cs_j) where j <= i are of one document, else 0
//   in_i    exp(cs_i) where token i still sees the state that enters the chunk
//   out_j   exp(cs_last - cs_j) where token j is of the chunk's last document
//   carry   exp(cs_last) where the entering state survives the chunk
// Every exponent is a difference of at most 0.
#pragma once

#include "cpu/common.h"

#include <vector>

namespace ft::cpu {

struct SsdSizes {
  int64_t B, T, H, P, N, G, Q, length, chunks;   // length: tokens of a sequence
  template <class Op>
  explicit SsdSizes(const Op& op)
      : B(op.sequences), T(op.x.rows()), H(op.a_log.size()), P(op.x.cols() / H), N(op.state), G(op.groups),
        Q(op.chunk), length(T / B), chunks(blocks_of(length, Q)) {}
};

struct SsdChunk {
  int64_t begin = 0, q = 0;   // first token (of all), tokens
  std::vector<float> raw, dt, cs, in, out, x, b, c, bt;
  std::vector<int64_t> first;   // first token of i's document inside the chunk, relative
  float carry = 0, a = 0, d = 0;

  float decay(int64_t i, int64_t j) const { return exp_f(std::min(0.0f, cs[i] - cs[j])); }   // j >= first[i]

  template <class Op>
  void load_from(const Op& op, const SsdSizes& s, int64_t sequence, int64_t head, int64_t chunk) {
    begin = sequence * s.length + chunk * s.Q;
    q = std::min(s.Q, s.length - chunk * s.Q);
    a = -std::exp(op.a_log.f32()[head]);
    d = op.d.f32()[head];
    for (auto* v : {&raw, &dt, &cs, &in, &out}) v->resize(s.Q);
    first.resize(s.Q);
    x.resize(s.Q * s.P), b.resize(s.Q * s.N), c.resize(s.Q * s.N), bt.resize(s.Q * s.N);
    const int64_t g = head / (s.H / s.G);
    float sum = 0;
    for (int64_t i = 0; i < q; ++i) {
      const int64_t t = begin + i;
      load(op.x.columns(head * s.P, (head + 1) * s.P), t, s.P, &x[i * s.P]);
      load(op.b.columns(g * s.N, (g + 1) * s.N), t, s.N, &b[i * s.N]);
      load(op.c.columns(g * s.N, (g + 1) * s.N), t, s.N, &c[i * s.N]);
      for (int64_t n = 0; n < s.N; ++n) bt[n * s.Q + i] = b[i * s.N + n];
      float value = 0;
      load(op.dt.columns(head, head + 1), t, 1, &value);
      raw[i] = op.dt_scale * value + op.dt_bias.f32()[head];
      const float soft = raw[i] > 20 ? raw[i] : std::log1p(std::exp(raw[i]));
      dt[i] = std::min(std::max(soft, op.dt_min), op.dt_max);
      const int64_t start = op.docs.i32()[t] - begin;   // negative: the document began before the chunk
      first[i] = std::max<int64_t>(start, 0);
      sum = start == i ? 0.0f : sum;                    // a new document: its prefix sum starts afresh
      sum += dt[i] * a;
      cs[i] = sum;
      in[i] = start < 0 ? exp_f(std::min(0.0f, sum)) : 0.0f;
    }
    const int64_t last = q - 1;
    for (int64_t j = 0; j < q; ++j) out[j] = j >= first[last] ? decay(last, j) : 0.0f;
    carry = in[last];
  }

  // Whether dt_i is inside its limits, and its slope by the raw value.
  float slope(int64_t i, float low, float high) const {
    const float soft = raw[i] > 20 ? raw[i] : std::log1p(std::exp(raw[i]));
    if (soft < low || soft > high) return 0;
    return raw[i] > 20 ? 1.0f : 1.0f / (1.0f + std::exp(-raw[i]));
  }
};

}  // namespace ft::cpu
