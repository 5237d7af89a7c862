// Parameters, gradients and moments: their memory, their start, their reduction over ranks, the
// optimizer step.
#pragma once

#include "core/context.h"
#include "core/memory.h"
#include "core/param.h"
#include "core/precision.h"
#include "parallel/checkpoint.h"
#include "parallel/comm.h"

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace ft {

// AdamW's settings as the optimizer uses them.
struct AdamSettings {
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0.1, clip = 1.0;
};

// Overrides for the pieces whose label and class (core/param.h) match shell-like patterns, an
// empty pattern being no condition; applied in order, the last match wins.
struct PieceGroup {
  std::string match;       // "*.mamba.dt_bias", "*.in_proj.weight[dt]"
  std::string parameters;  // "conv", "in_proj_*"
  std::optional<double> lr_multiplier, weight_decay;
};

class Store {
 public:
  // Collects the parameters that `visit` shows; they must outlive the store.
  explicit Store(const std::function<void(const std::function<void(Param&)>&)>& visit);

  // Memory for weights, and with `training` gradients and moments.
  void bind(Memory& memory, Precision precision, bool training);
  // Applies groups; throws ConfigError for one that matches nothing.
  void set_groups(const std::vector<PieceGroup>& groups, double weight_decay);

  // Starting values: a function of (seed, Hugging Face name, element) alone.
  void initialise(uint64_t seed);
  // Values from elsewhere: f(piece, row, to) writes a row of the piece's box.
  using ReadRow = std::function<void(const Piece& piece, int64_t row, float* to)>;
  void load(const ReadRow& read);
  void load(const Checkpoint& checkpoint);  // weights
  void load_optimizer(const Checkpoint& checkpoint);
  void refresh_compute(Ctx& c);  // compute copies from master weights

  // Gradients summed over the data-parallel ranks, in rank order.
  void reduce_gradients(Group& data);
  int64_t reduction_bytes(int ranks) const;  // that the group takes for it, and keeps
  // Sum of squares of all gradient pieces into grad_squares(); by class for the log when
  // `by_class`.
  void gradient_norm(Ctx& c);
  // One AdamW step; scalars: lr, step (1-based), clip factor, weight-decay factor.
  void step(Ctx& c, const AdamSettings& settings);

  Transfer& transfer() const { return *transfer_; }
  Tensor scalars() const { return scalars_; }  // [4] f32
  Tensor clip_factor() const { return scalars_.row_range(2, 3); }
  Tensor grad_squares() const { return grad_squares_; }  // [1] f64

  // What a checkpoint holds; data-parallel ranks, which hold the same, share it out.
  std::vector<CheckpointPiece> checkpoint_pieces(bool with_optimizer) const;
  void for_pieces(const std::function<void(Param&, Piece&)>& f) const;
  int64_t parameters() const;  // elements, padding left out

 private:
  std::vector<Param*> params_;
  Tensor grads_;  // all gradients, one run of memory
  Tensor scalars_, grad_squares_;
  Device* device_ = nullptr;
  Transfer* transfer_ = nullptr;
  bool training_ = false;
};

bool matches(const std::string& pattern,
             const std::string& text);  // *, ? only; brackets are literal

}  // namespace ft
