// Conv1d of core/ops.h and its gradient in double, tap by tap.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <vector>

namespace ft::reference {

struct Conv {
  int64_t B, L, C, k;
  std::vector<double> x, w, bias, history;  // [B L, C], [C, k], [C] or empty, [B (k-1), C] or empty
  std::vector<int32_t> docs;
  std::array<int64_t, 3> sections{};
  std::array<double, 3> scales{1, 1, 1};

  double scale(int64_t c) const {
    return scales[c < sections[0] ? 0 : c < sections[0] + sections[1] ? 1 : 2];
  }
  // f(tap, which, index): every tap of output (t, c) that is inside the document.
  template <class F>
  void each_tap(int64_t t, int64_t c, F&& f) const {
    const int64_t b = t / L;
    for (int64_t j = 0; j < k; ++j) {
      const int64_t from = t - (k - 1) + j;
      if (from < docs[t]) continue;
      if (from >= b * L) f(j, true, from * C + c);
      else if (!history.empty()) f(j, false, (b * (k - 1) + (k - 1) - (b * L - from)) * C + c);
    }
  }
  double before(int64_t t, int64_t c) const {
    double sum = bias.empty() ? 0 : bias[c];
    each_tap(t, c, [&](int64_t j, bool own, int64_t at) {
      sum += w[c * k + j] * scale(c) * (own ? x : history)[at];
    });
    return sum;
  }
};

inline std::vector<double> conv(const Conv& s) {
  std::vector<double> y(s.x.size());
  for (int64_t t = 0; t < s.B * s.L; ++t)
    for (int64_t c = 0; c < s.C; ++c) {
      const double a = s.before(t, c);
      y[t * s.C + c] = a / (1 + std::exp(-a));
    }
  return y;
}

struct ConvGrads {
  std::vector<double> x, w, bias, history;
};
inline ConvGrads conv_grad(const Conv& s, const std::vector<double>& dy) {
  ConvGrads g{std::vector<double>(s.x.size()), std::vector<double>(s.w.size()),
              std::vector<double>(s.C), std::vector<double>(s.B * (s.k - 1) * s.C)};
  for (int64_t t = 0; t < s.B * s.L; ++t)
    for (int64_t c = 0; c < s.C; ++c) {
      const double a = s.before(t, c), sig = 1 / (1 + std::exp(-a));
      const double d = dy[t * s.C + c] * sig * (1 + a * (1 - sig));
      g.bias[c] += d;
      s.each_tap(t, c, [&](int64_t j, bool own, int64_t at) {
        g.w[c * s.k + j] += d * s.scale(c) * (own ? s.x : s.history)[at];
        (own ? g.x : g.history)[at] += d * s.scale(c) * s.w[c * s.k + j];
      });
    }
  return g;
}

}  // namespace ft::reference
