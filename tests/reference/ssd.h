// Ssd of core/ops.h token by token in double, and its gradient through the adjoint recurrence
//   K_t = dy_t C_t^T + exp(a_{t+1}) K_{t+1},  the factor 0 where t+1 starts a document
// No chunks anywhere.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

namespace ft::reference {

struct Ssd {
  int64_t B, L, H, P, N, G;
  std::vector<double> x, b, c, dt, dt_bias, a_log, d, initial;  // initial: [B, H P N] or empty
  std::vector<int32_t> docs;
  double dt_scale = 1, dt_min = 0, dt_max = std::numeric_limits<double>::infinity();

  double raw(int64_t t, int64_t h) const { return dt_scale * dt[t * H + h] + dt_bias[h]; }
  double soft(int64_t t, int64_t h) const {
    const double r = raw(t, h);
    return r > 20 ? r : std::log1p(std::exp(r));
  }
  double step(int64_t t, int64_t h) const {
    return std::fmin(std::fmax(soft(t, h), dt_min), dt_max);
  }
  double slope(int64_t t, int64_t h) const {
    const double r = raw(t, h), v = soft(t, h);
    if (v < dt_min || v > dt_max) return 0;
    return r > 20 ? 1 : 1 / (1 + std::exp(-r));
  }
  // What of the state before token t survives: a document that starts at t forgets it.
  double decay(int64_t t, int64_t h) const {
    return docs[t] == t ? 0 : std::exp(-std::exp(a_log[h]) * step(t, h));
  }
  int64_t group(int64_t h) const { return h / (H / G); }
};

struct SsdValues {
  std::vector<double> y, final, states;  // states: [B L, H P N] after each token
};
inline SsdValues ssd(const Ssd& s) {
  const int64_t per = s.H * s.P * s.N;
  SsdValues out{std::vector<double>(s.x.size()), std::vector<double>(s.B * per),
                std::vector<double>(s.B * s.L * per)};
  for (int64_t b = 0; b < s.B; ++b) {
    std::vector<double> S(per);
    if (!s.initial.empty())
      S.assign(s.initial.begin() + b * per, s.initial.begin() + (b + 1) * per);
    for (int64_t t = b * s.L; t < (b + 1) * s.L; ++t)
      for (int64_t h = 0; h < s.H; ++h)
        for (int64_t p = 0; p < s.P; ++p) {
          const double x = s.x[(t * s.H + h) * s.P + p];
          double y = s.d[h] * x;
          for (int64_t n = 0; n < s.N; ++n) {
            double& v = S[(h * s.P + p) * s.N + n];
            const int64_t bc = (t * s.G + s.group(h)) * s.N + n;
            v = s.decay(t, h) * v + s.step(t, h) * x * s.b[bc];
            y += v * s.c[bc];
            out.states[t * per + (h * s.P + p) * s.N + n] = v;
          }
          out.y[(t * s.H + h) * s.P + p] = y;
        }
    std::copy(S.begin(), S.end(), out.final.begin() + b * per);
  }
  return out;
}

struct SsdGrads {
  std::vector<double> x, b, c, dt, dt_bias, a_log, d, initial;
};
inline SsdGrads ssd_grad(const Ssd& s, const std::vector<double>& dy,
                         const std::vector<double>& dfinal) {
  const int64_t per = s.H * s.P * s.N;
  const SsdValues f = ssd(s);
  SsdGrads g{std::vector<double>(s.x.size()), std::vector<double>(s.b.size()),
             std::vector<double>(s.c.size()), std::vector<double>(s.dt.size()),
             std::vector<double>(s.H),        std::vector<double>(s.H),
             std::vector<double>(s.H),        std::vector<double>(s.B * per)};
  for (int64_t b = 0; b < s.B; ++b) {
    std::vector<double> K(per);  // gradient of the state after token t
    if (!dfinal.empty()) K.assign(dfinal.begin() + b * per, dfinal.begin() + (b + 1) * per);
    for (int64_t t = (b + 1) * s.L - 1; t >= b * s.L; --t)
      for (int64_t h = 0; h < s.H; ++h) {
        const double step = s.step(t, h), decay = s.decay(t, h), A = -std::exp(s.a_log[h]);
        double dstep = 0, dlog = 0;  // of dt_t, and of the exponent dt_t A
        for (int64_t p = 0; p < s.P; ++p) {
          const int64_t xi = (t * s.H + h) * s.P + p;
          g.d[h] += dy[xi] * s.x[xi];
          g.x[xi] += dy[xi] * s.d[h];
          for (int64_t n = 0; n < s.N; ++n) {
            const int64_t i = (h * s.P + p) * s.N + n, bc = (t * s.G + s.group(h)) * s.N + n;
            const double entering = s.initial.empty() ? 0 : s.initial[b * per + i];
            const double previous = t > b * s.L ? f.states[(t - 1) * per + i] : entering;
            g.c[bc] += dy[xi] * f.states[t * per + i];
            K[i] += dy[xi] * s.c[bc];
            g.x[xi] += K[i] * step * s.b[bc];
            g.b[bc] += K[i] * step * s.x[xi];
            dstep += K[i] * s.x[xi] * s.b[bc];
            dlog += K[i] * decay * previous;
            K[i] *= decay;
          }
        }
        const double draw = (dstep + A * dlog) * s.slope(t, h);
        g.dt[t * s.H + h] = draw * s.dt_scale;
        g.dt_bias[h] += draw;
        g.a_log[h] += A * step * dlog;
      }
    std::copy(K.begin(), K.end(), g.initial.begin() + b * per);
  }
  return g;
}

}  // namespace ft::reference
