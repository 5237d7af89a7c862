// Numbers in messages for people.
#pragma once

#include <cmath>
#include <limits>

namespace ft {

// x, a NaN without its sign: whether the processor sets one says nothing, yet it would be printed.
inline double unsigned_nan(double x) {
  return std::isnan(x) ? std::numeric_limits<double>::quiet_NaN() : x;
}

}  // namespace ft
