// RmsNorm and GatedNorm of core/ops.h in double.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

namespace ft::reference {

// y = w x / sqrt(mean(x^2) + eps) over each run of C / groups channels of x [T, C].
inline std::vector<double> rms_norm(const std::vector<double>& x, const std::vector<double>& w,
                                    double eps, int64_t groups = 1,
                                    std::vector<double>* rstd = nullptr) {
  const int64_t C = static_cast<int64_t>(w.size()), n = C / groups,
                runs = static_cast<int64_t>(x.size()) / n;
  std::vector<double> y(x.size());
  for (int64_t r = 0; r < runs; ++r) {
    double squares = 0;
    for (int64_t i = r * n; i < (r + 1) * n; ++i) squares += x[i] * x[i];
    const double inverse = 1 / std::sqrt(squares / static_cast<double>(n) + eps);
    if (rstd) rstd->push_back(inverse);
    for (int64_t i = r * n; i < (r + 1) * n; ++i) y[i] = w[i % C] * x[i] * inverse;
  }
  return y;
}

struct GatedNorm {
  double z_scale = 1, out_scale = 1, eps = 1e-5;
  int64_t groups = 1;
  bool norm_before_gate = false;
};
// w empty: the gate alone.
inline std::vector<double> gated_norm(const GatedNorm& s, std::vector<double> x,
                                      const std::vector<double>& z, const std::vector<double>& w,
                                      std::vector<double>* rstd = nullptr) {
  const auto gate = [&](std::vector<double> v) {
    for (size_t i = 0; i < v.size(); ++i) {
      const double a = s.z_scale * z[i];
      v[i] *= a / (1 + std::exp(-a));
    }
    return v;
  };
  if (w.empty()) x = gate(x);
  else if (s.norm_before_gate) x = gate(rms_norm(x, w, s.eps, s.groups, rstd));
  else x = rms_norm(gate(x), w, s.eps, s.groups, rstd);
  for (double& v : x) v *= s.out_scale;
  return x;
}

}  // namespace ft::reference
