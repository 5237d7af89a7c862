// Cross-entropy of core/ops.h in double. Its gradient is taken by differences of total().
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace ft::reference {

struct CrossEntropy {
  int64_t vocab, padded;
  std::vector<double> logits;  // [T, padded]
  std::vector<int32_t> labels;
  double z_loss, inv_count;

  double lse(int64_t t) const {
    const double* x = &logits[t * padded];
    const double high = *std::max_element(x, x + vocab);
    double sum = 0;
    for (int64_t i = 0; i < vocab; ++i) sum += std::exp(x[i] - high);
    return high + std::log(sum);
  }
  double loss(int64_t t) const {
    return labels[t] < 0 ? 0 : lse(t) - logits[t * padded + labels[t]];
  }
  double z(int64_t t) const { return labels[t] < 0 ? 0 : lse(t) * lse(t); }
  double total() const {
    double sum = 0;
    for (int64_t t = 0; t < static_cast<int64_t>(labels.size()); ++t)
      sum += loss(t) + z_loss * z(t);
    return inv_count * sum;
  }
};

}  // namespace ft::reference
