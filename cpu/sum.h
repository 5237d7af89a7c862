// A run of numbers added up in an order of its own.
#pragma once

#include "cpu/common.h"

namespace ft::cpu {

// The sum of f over n numbers, in double: sixteen sums side by side, since each addition waits for
// the one before.
template <class E, class F>
double sum_of(const E* x, int64_t n, F&& f) {
  constexpr int64_t kSums = 16;
  double sums[kSums] = {};
  int64_t i = 0;
  for (; i + kSums <= n; i += kSums)
    for (int64_t j = 0; j < kSums; ++j) sums[j] += f(to_float(x[i + j]));
  for (; i < n; ++i) sums[i % kSums] += f(to_float(x[i]));
  double total = 0;
  for (double sum : sums) total += sum;
  return total;
}

}  // namespace ft::cpu
