// SwiGlu and AddBias of core/ops.h in double.
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

inline std::vector<double> add_bias(std::vector<double> y, const std::vector<double>& bias,
                                    double scale) {
  for (size_t i = 0; i < y.size(); ++i) y[i] += scale * bias[i % bias.size()];
  return y;
}

}  // namespace ft::reference
