// Which source gives the next sample: the one that lags most behind its share, ties to the first
// (Megatron's rule, but over counts since the blend began, so that a blend can change in mid-run).
#pragma once

#include <cstdint>
#include <vector>

namespace ft {

// One blend: weights, and how many samples each source gave since it began.
struct Blend {
  std::vector<double> weights;  // sum 1
  std::vector<int64_t> taken;
  int64_t samples = 0;  // sum of `taken`
  int64_t next();       // index of the source; counts it
};

Blend make_blend(const std::vector<double>& weights);  // any positive sum; nothing taken yet

}  // namespace ft
