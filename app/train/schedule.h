// What changes while a run goes on: learning rate, weight decay and batch, as pure functions of the
// tokens seen. A resumed run, a plan and a plot ask the same functions.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ft {

struct SchedulePoint {
  double tokens = 0, factor = 1;
};

struct LrSchedule {
  std::string type = "cosine";              // constant | linear | cosine | wsd | power | points
  double warmup = 0, decay = 0, total = 0;  // tokens
  // linear, cosine: factor at the end; wsd, power: factor at the end over that at the decay's begin
  double final_ratio = 0.1;
  std::string decay_shape = "exponential";  // of wsd and power: exponential | linear | cosine
  double power_start = 0, exponent = 0.25;  // power: (tokens / start)^-exponent; 0: after warm-up
  std::vector<SchedulePoint> points;
};

struct WeightDecaySchedule {
  std::string type = "auto";  // auto | constant | linear | cosine | power | lr | points
  double start = 0;           // linear, cosine: tokens where the fall begins
  double final_ratio = 0;     // linear, cosine: factor at the end
  std::vector<SchedulePoint> points;
};

struct BatchStage {
  int64_t tokens = 0, sequences = 1;  // from that many tokens on
};

struct Recipe {
  LrSchedule lr;
  WeightDecaySchedule weight_decay;
  std::vector<BatchStage> batch;  // rising tokens, the first at 0; the last one is the reference
  bool sqrt_lr = false;           // learning rate x sqrt(batch / reference batch)
  int64_t sequence_length = 1;
  int64_t total = 0;  // tokens of the run
};

// One optimizer step.
struct RecipeStep {
  int64_t batch = 0;         // sequences
  int64_t tokens_after = 0;  // seen when the step is done
  double lr_factor = 1, weight_decay_factor = 1;
};

// Factors of the peak; tokens: seen at the end of the step that uses them.
double lr_factor(const LrSchedule& schedule, double tokens);
double weight_decay_factor(const Recipe& recipe, double tokens);
// Between points the line, outside them the nearest; of two at the same place the first holds up to
// and with it, the second after it.
double points_factor(const std::vector<SchedulePoint>& points, double tokens);

// The step that begins with so many tokens seen.
RecipeStep recipe_step(const Recipe& recipe, int64_t tokens_seen);
// Steps until the run's tokens are seen.
int64_t steps_left(const Recipe& recipe, int64_t tokens_seen);
// Tokens seen when step `step` (1-based, counted from the run's start) begins.
int64_t tokens_before(const Recipe& recipe, int64_t step);

}  // namespace ft
