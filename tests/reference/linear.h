// Gemm and AddBias of core/ops/linear.h in double.
#pragma once

#include <cstdint>
#include <vector>

namespace ft::reference {

struct Gemm {
  int64_t M, N, K;
  bool trans_a = false, trans_b = true;
  double alpha = 1;
};

// alpha op(a) op(b) + added; a, b dense as stored, added [M, N] or empty.
inline std::vector<double> gemm(const Gemm& s, const std::vector<double>& a,
                                const std::vector<double>& b, const std::vector<double>& added) {
  std::vector<double> y(static_cast<size_t>(s.M * s.N));
  for (int64_t m = 0; m < s.M; ++m)
    for (int64_t n = 0; n < s.N; ++n) {
      double sum = 0;
      for (int64_t k = 0; k < s.K; ++k)
        sum += a[s.trans_a ? k * s.M + m : m * s.K + k] * b[s.trans_b ? n * s.K + k : k * s.N + n];
      y[m * s.N + n] = s.alpha * sum + (added.empty() ? 0 : added[m * s.N + n]);
    }
  return y;
}

inline std::vector<double> add_bias(std::vector<double> y, const std::vector<double>& bias,
                                    double scale) {
  for (size_t i = 0; i < y.size(); ++i) y[i] += scale * bias[i % bias.size()];
  return y;
}

}  // namespace ft::reference
