// AdamW of core/ops.h in double, as torch.optim.AdamW orders it (Loshchilov and Hutter 2019,
// algorithm 2).
#pragma once

#include <cmath>
#include <vector>

namespace ft::reference {

struct AdamW {
  double lr = 1e-3, beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0, clip = 1;
  std::vector<double> w, m, v;

  void step(int count, const std::vector<double>& gradient) {  // count: 1-based
    for (size_t i = 0; i < w.size(); ++i) {
      const double g = gradient[i] * clip;
      w[i] -= lr * weight_decay * w[i];
      m[i] = beta1 * m[i] + (1 - beta1) * g;
      v[i] = beta2 * v[i] + (1 - beta2) * g * g;
      const double m_hat = m[i] / (1 - std::pow(beta1, count)),
                   v_hat = v[i] / (1 - std::pow(beta2, count));
      w[i] -= lr * m_hat / (std::sqrt(v_hat) + eps);
    }
  }
};

}  // namespace ft::reference
