#include "parallel/lr_schedule.h"

#include <algorithm>
#include <cmath>

namespace ft {

namespace {

// From 1 to `end` while progress goes from 0 to 1.
double shape(const std::string& name, double progress, double end) {
  if (name == "exponential") return std::pow(std::max(end, 1e-10), progress);
  if (name == "cosine")
    return end + (1 - end) * 0.5 * (1 + std::cos(3.14159265358979323846 * progress));
  return 1 + (end - 1) * progress;
}

}  // namespace

double lr_factor(const LrSchedule& s, double tokens) {
  if (tokens < s.warmup) return tokens / s.warmup;
  if (s.type == "constant") return 1;
  const double length = s.type == "wsd" ? s.decay : s.total - s.warmup;
  if (length <= 0) return 1;
  const double progress = std::clamp((tokens - (s.total - length)) / length, 0.0, 1.0);
  return shape(s.type == "wsd" ? s.decay_shape : s.type, progress, s.final_ratio);
}

}  // namespace ft
