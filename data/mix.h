// Which source gives the next sample: the one that lags most behind its share, ties to the first.
#pragma once

#include <cstdint>
#include <vector>

namespace ft {

// One blend: weights, and how many samples each source gave since it began.
struct Blend {
  std::vector<double> weights;   // sum 1
  std::vector<int64_t> taken;
  int64_t next() {               // index of the source; counts it
    int64_t samples = 0;
    for (int64_t n : taken) samples += n;
    size_t best = 0;
    double most = -1e300;
    for (size_t i = 0; i < weights.size(); ++i) {
      const double lag = weights[i] * static_cast<double>(samples + 1) - static_cast<double>(taken[i]);
      if (weights[i] > 0 && lag > most) most = lag, best = i;
    }
    ++taken[best];
    return static_cast<int64_t>(best);
  }
};

}  // namespace ft
