// AdamW over all pieces of parameters: settings by groups, the norm of the gradients, the verdict on a
// step and the step. On the device nothing of it waits for the host.
#pragma once

#include "parallel/store.h"

#include <limits>
#include <optional>
#include <string>
#include <vector>

namespace ft {

// Overrides for the pieces whose label and class (core/param.h) match shell-like patterns, an
// empty pattern being no condition; applied in order, the last match wins.
struct PieceGroup {
  std::string match;       // "*.mamba.dt_bias", "*.in_proj.weight[dt]"
  std::string parameters;  // "conv", "in_proj_*"
  std::optional<double> lr_multiplier, weight_decay;
};

// Gives each piece its learning-rate multiplier and weight decay; throws ConfigError for a group that
// matches nothing.
void set_groups(Store& store, const std::vector<PieceGroup>& groups, double weight_decay);

bool matches(const std::string& pattern,
             const std::string& text);  // *, ? only; brackets are literal

struct AdamSettings {
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8;
};

// What the host knows of a step before it begins.
struct StepInputs {
  float lr = 0, weight_decay_factor = 1;
  int64_t labels = 0;                                           // of all ranks that count
  double loss_bound = std::numeric_limits<double>::infinity();  // above it the step is left out
};

class Optimizer {
 public:
  // The store must outlive this, be bound for training, and have its memory there.
  Optimizer(Store& store, Memory& memory);

  void set_count(int64_t updates);  // taken so far; the device counts on
  // In this order in every step:
  void begin(const StepInputs& inputs);
  void gradient_norm(Ctx& c);  // of the gradients, reduced over ranks: squares and their sum
  // Whether step() may change weights, from the sum of losses of all ranks and the sum of squares;
  // max_norm: of the gradients, 0: they are not clipped.
  void verdict(Ctx& c, const Tensor& loss_sum, double max_norm);
  void step(Ctx& c, const AdamSettings& settings);

  Tensor scalars() const { return scalars_; }              // [kStepScalars] f64
  Tensor sum_squares() const { return sum_squares_; }      // [1] f64
  Tensor piece_squares() const { return piece_squares_; }  // [pieces] f64, as Store::for_pieces

 private:
  Store& store_;
  Tensor scalars_, sum_squares_, piece_squares_;
};

}  // namespace ft
