#include "app/train/schedule.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace ft {

namespace {

// From 1 to `end` while progress goes from 0 to 1.
double shape(const std::string& name, double progress, double end) {
  if (name == "exponential") return std::pow(end, progress);
  if (name == "cosine")
    return end + (1 - end) * 0.5 * (1 + std::cos(3.14159265358979323846 * progress));
  return 1 + (end - 1) * progress;
}

// 0 before `begin`, 1 after begin + length.
double progress(double tokens, double begin, double length) {
  if (length <= 0) return tokens > begin ? 1 : 0;
  return std::clamp((tokens - begin) / length, 0.0, 1.0);
}

// t^-exponent, continuous at its start.
double power_factor(const LrSchedule& s, double tokens) {
  const double start = s.power_start > 0 ? s.power_start : s.warmup;
  return tokens <= start ? 1 : std::pow(tokens / start, -s.exponent);
}

// The stage that holds at `tokens`.
size_t stage_at(const std::vector<BatchStage>& batch, int64_t tokens) {
  size_t stage = 0;
  while (stage + 1 < batch.size() && batch[stage + 1].tokens <= tokens) ++stage;
  return stage;
}

}  // namespace

double points_factor(const std::vector<SchedulePoint>& points, double tokens) {
  if (points.empty()) return 1;
  if (tokens <= points.front().tokens) return points.front().factor;
  for (size_t i = 1; i < points.size(); ++i) {
    const SchedulePoint &a = points[i - 1], &b = points[i];
    if (tokens <= b.tokens)
      return a.factor + (b.factor - a.factor) * progress(tokens, a.tokens, b.tokens - a.tokens);
  }
  return points.back().factor;
}

double lr_factor(const LrSchedule& s, double tokens) {
  if (s.type == "points") return points_factor(s.points, tokens);
  if (tokens < s.warmup) return tokens / s.warmup;
  if (s.type == "constant") return 1;
  if (s.type == "linear" || s.type == "cosine") {
    const double length = s.total - s.warmup;
    return length <= 0 ? 1 : shape(s.type, progress(tokens, s.warmup, length), s.final_ratio);
  }
  const double begin = s.total - s.decay;
  const double stable =
      s.type == "power" ? power_factor(s, s.decay > 0 ? std::min(tokens, begin) : tokens) : 1;
  if (s.decay <= 0) return stable;
  return stable * shape(s.decay_shape, progress(tokens, begin, s.decay), s.final_ratio);
}

double weight_decay_factor(const Recipe& r, double tokens) {
  const WeightDecaySchedule& s = r.weight_decay;
  const bool automatic = s.type == "auto";
  if (s.type == "points") return points_factor(s.points, tokens);
  if (s.type == "lr") return lr_factor(r.lr, tokens);
  if (s.type == "power" || (automatic && r.lr.type == "power")) return power_factor(r.lr, tokens);
  if (s.type == "linear" || s.type == "cosine")
    return shape(s.type, progress(tokens, s.start, static_cast<double>(r.total) - s.start),
                 s.final_ratio);
  return 1;
}

RecipeStep recipe_step(const Recipe& r, int64_t tokens_seen) {
  RecipeStep step;
  step.batch = r.batch[stage_at(r.batch, tokens_seen)].sequences;
  step.tokens_after = tokens_seen + step.batch * r.sequence_length;
  const auto tokens = static_cast<double>(step.tokens_after);
  step.lr_factor = lr_factor(r.lr, tokens);
  if (r.sqrt_lr)
    step.lr_factor *=
        std::sqrt(static_cast<double>(step.batch) / static_cast<double>(r.batch.back().sequences));
  step.weight_decay_factor = weight_decay_factor(r, tokens);
  return step;
}

namespace {

// Calls f(steps, tokens of a step, tokens seen before them) for each run of steps of one batch.
template <class F>
void for_stages(const Recipe& r, int64_t tokens, F&& f) {
  while (tokens < r.total) {
    const size_t stage = stage_at(r.batch, tokens);
    const int64_t end =
        stage + 1 < r.batch.size() ? std::min(r.batch[stage + 1].tokens, r.total) : r.total;
    const int64_t per_step = r.batch[stage].sequences * r.sequence_length;
    const int64_t n = (end - tokens - 1) / per_step + 1;
    f(n, per_step, tokens);
    tokens += n * per_step;
  }
}

}  // namespace

int64_t steps_left(const Recipe& r, int64_t tokens) {
  int64_t steps = 0;
  for_stages(r, tokens, [&](int64_t n, int64_t, int64_t) { steps += n; });
  return steps;
}

int64_t tokens_before(const Recipe& r, int64_t step) {
  int64_t done = 0, tokens = 0;
  for_stages(r, 0, [&](int64_t n, int64_t per_step, int64_t seen) {
    if (done < step) tokens = seen + (std::min(step, done + n) - done - 1) * per_step;
    done += n;
  });
  return tokens;
}

}  // namespace ft
