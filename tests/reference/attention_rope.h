// Rotary positions in long double: angles are not reduced by more than x87 arithmetic can bear.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

namespace ft::reference {

inline long double rope_angle(int64_t position, int64_t j, int64_t dim, double theta) {
  return static_cast<long double>(position) *
         std::pow(static_cast<long double>(theta),
                  -2.0L * static_cast<long double>(j) / static_cast<long double>(dim));
}

// scale * rotate(x): pairs (j, j + dim/2) turn by +angle, or by -angle for the inverse.
inline std::vector<double> rope(const std::vector<double>& x, int64_t heads, int64_t dim,
                                const std::vector<int32_t>& docs, double theta, double scale,
                                bool inverse) {
  std::vector<double> y(x.size());
  const int64_t half = dim / 2;
  for (int64_t t = 0; t < static_cast<int64_t>(docs.size()); ++t)
    for (int64_t h = 0; h < heads; ++h)
      for (int64_t j = 0; j < half; ++j) {
        const long double angle = rope_angle(t - docs[t], j, dim, theta) * (inverse ? -1 : 1);
        const int64_t a = (t * heads + h) * dim + j, b = a + half;
        y[a] = static_cast<double>(scale * (x[a] * std::cos(angle) - x[b] * std::sin(angle)));
        y[b] = static_cast<double>(scale * (x[b] * std::cos(angle) + x[a] * std::sin(angle)));
      }
  return y;
}

}  // namespace ft::reference
