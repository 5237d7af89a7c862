#include "data/mix.h"

#include "core/check.h"

#include <cmath>
#include <limits>

namespace ft {

Blend make_blend(const std::vector<double>& weights) {
  double sum = 0;
  for (const double w : weights) {
    FT_CHECK_CONFIG(w >= 0 && std::isfinite(w), "data.train: a weight is {}; weights are 0 or more",
                    w);
    sum += w;
  }
  FT_CHECK_CONFIG(sum > 0 && std::isfinite(sum), "data.train: the weights add up to {}", sum);
  Blend blend{weights, std::vector<int64_t>(weights.size(), 0)};
  for (double& w : blend.weights) w /= sum;
  return blend;
}

int64_t Blend::next() {
  size_t best = 0;
  double most = -std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < weights.size(); ++i) {
    // fma: rounded once on every machine, so the choice is the same on all.
    const double lag =
        std::fma(weights[i], static_cast<double>(samples + 1), -static_cast<double>(taken[i]));
    if (weights[i] > 0 && lag > most) most = lag, best = i;
  }
  ++taken[best], ++samples;
  return static_cast<int64_t>(best);
}

}  // namespace ft
