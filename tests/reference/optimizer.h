// The optimizer's ops of core/ops/optimizer.h in double: AdamW as torch.optim.AdamW orders it
// (Loshchilov and Hutter 2019, algorithm 2), the verdict on a step.
#pragma once

#include <algorithm>
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

struct Verdict {
  bool apply;
  double clip;
};
inline Verdict verdict(double loss_sum, double labels, double bound, double squares,
                       double max_norm) {
  const double norm = std::sqrt(squares);
  const bool finite = std::isfinite(loss_sum) && std::isfinite(norm);
  return {finite && labels > 0 && loss_sum / labels <= bound,
          max_norm > 0 ? std::min(1.0, max_norm / (norm + 1e-6)) : 1.0};
}

}  // namespace ft::reference
