// SwiGlu of core/ops/mlp.h in double.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

namespace ft::reference {

inline std::vector<double> swiglu(const std::vector<double>& gate, const std::vector<double>& up,
                                  double gate_scale) {
  std::vector<double> y(gate.size());
  for (size_t i = 0; i < y.size(); ++i) {
    const double a = gate_scale * gate[i];
    y[i] = up[i] * a / (1 + std::exp(-a));
  }
  return y;
}

}  // namespace ft::reference
