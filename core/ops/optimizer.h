// The optimizer's ops. Each goes once over all pieces of all parameters, by a table on the device:
// one launch, however many pieces a model has.
#pragma once

#include "core/ops/op.h"
#include "core/ops/reduce.h"

#include <optional>

namespace ft::ops {

// A piece of a parameter: a box in the flat buffers of master weights, gradients and moments, which
// are laid out alike. A box without gaps is one row.
struct Segment {
  int64_t offset = 0;        // of its first element
  int64_t copy_offset = -1;  // the same in the buffer of compute copies; -1: it has no copy
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;     // elements from row to row, in both buffers
  int64_t first_run = 0;  // number of the runs of those before it in the table
  float lr_multiplier = 1;
  float weight_decay = 0;

  constexpr int64_t runs() const { return rows * ((cols + kRun - 1) / kRun); }
  constexpr int64_t size() const { return rows * cols; }
};

// The table, and what a launch must know of it without reading it.
struct Segments {
  In table;              // [count * sizeof(Segment)] u8
  int64_t count = 0;     // of pieces
  int64_t runs = 0;      // of all
  int64_t elements = 0;  // of all: padding between pieces is in none
  void check() const {
    const auto size = static_cast<int64_t>(sizeof(Segment));
    check_dense("segments", table, Dtype::U8, {count * size});
  }
};

// squares[i] = sum of x^2 over piece i, in fp64; total = their sum in the table's order.
struct SumSquares {
  Out squares;  // [count] f64
  In x;         // flat f32
  Segments segments;
  std::optional<Out> total = std::nullopt;  // [1] f64
  FT_OP("sum_squares") {
    f("squares", squares);
    FT_OPTIONAL(total);
    f("x", x), f("segments", segments.table);
  }
  void check() const {
    segments.check();
    check_dense("squares", squares, kF64, {segments.count});
    check_dense("x", x, kF32, {kAny});
    check_dense("total", total, kF64, {1});
  }
  double flops() const { return 2.0 * segments.elements; }
};

// The compute copies of master weights, of the pieces that have one.
struct ComputeCopies {
  Out copies;  // flat bf16
  In w;        // flat f32
  Segments segments;
  FT_OP("compute_copies") { f("copies", copies), f("w", w), f("segments", segments.table); }
  void check() const {
    segments.check();
    check_dense("copies", copies, Dtype::BF16, {kAny});
    check_dense("w", w, kF32, {kAny});
  }
  double flops() const { return 0; }
};

// Scalars of a step, f64: the host writes the first four before it, the count once before the first
// step; StepVerdict leaves the others for AdamW.
enum StepScalar : int64_t {
  kLr,
  kWeightDecayFactor,
  kLabels,     // of all ranks that count
  kLossBound,  // above it a loss is a spike, and the step is left out; infinite: never
  kCount,      // updates so far: AdamW's bias correction counts these
  kClip,       // of gradients
  kApply,      // 1: the step changes weights; 0: it is left out
  kStepScalars
};

// Whether a step may change weights: there was a label, loss and norm are finite, and the loss is not
// above its bound. The weights are safe from a bad step without the host having seen it.
//   loss = loss_sum / labels;  norm = sqrt(sum_squares);  count += apply
//   clip = min(1, max_norm / (norm + 1e-6)), 1 where max_norm <= 0 (torch's clip_grad_norm_)
struct StepVerdict {
  InOut scalars;   // [kStepScalars] f64
  In loss_sum;     // [1] f64, of all ranks
  In sum_squares;  // [1] f64, of all gradients
  float max_norm = 1;
  FT_OP("step_verdict") {
    f("scalars", scalars), f("loss_sum", loss_sum), f("sum_squares", sum_squares);
  }
  void check() const {
    check_dense("scalars", scalars, kF64, {kStepScalars});
    check_dense("loss_sum", loss_sum, kF64, {1});
    check_dense("sum_squares", sum_squares, kF64, {1});
  }
  double flops() const { return 0; }
};

// AdamW (Loshchilov and Hutter 2019), torch's order, m^ and v^ bias-corrected by the count:
//   w -= lr wd w;  then  w -= lr m^ / (sqrt(v^) + eps)
// g is scaled by clip first; lr and wd are a piece's own. Writes nothing where apply is 0.
struct AdamW {
  InOut w;  // flat f32, master weights
  InOut m;
  InOut v;
  In g;
  In scalars;  // [kStepScalars] f64, the count at least 1
  Segments segments;
  std::optional<Out> copies = std::nullopt;  // flat bf16: compute copies of w, for those with one
  float beta1 = 0.9f;
  float beta2 = 0.95f;
  float eps = 1e-8f;
  FT_OP("adamw") {
    f("w", w), f("m", m), f("v", v);
    FT_OPTIONAL(copies);
    f("g", g), f("scalars", scalars), f("segments", segments.table);
  }
  void check() const {
    segments.check();
    check_dense("w", w, kF32, {kAny});
    check_dense("m", m, kF32, {w.size()});
    check_dense("v", v, kF32, {w.size()});
    check_dense("g", g, kF32, {w.size()});
    check_dense("scalars", scalars, kF64, {kStepScalars});
    check_dense("copies", copies, Dtype::BF16, {kAny});
  }
  double flops() const { return 16.0 * segments.elements; }
};

}  // namespace ft::ops
