// What turns gradients into new weights.
#pragma once

#include "core/ops/op.h"

#include <optional>

namespace ft::ops {

// factor = min(1, max_norm / (sqrt(sum_squares) + 1e-6)), 1 where max_norm <= 0
// (torch's clip_grad_norm_)
struct ClipFactor {
  Out factor;      // [1] f32
  In sum_squares;  // [1] f64
  float max_norm = 1;
  FT_OP("clip_factor") { f("factor", factor), f("sum_squares", sum_squares); }
  void check() const {
    check_dense("factor", factor, kF32, {1});
    check_dense("sum_squares", sum_squares, kF64, {1});
  }
  double flops() const { return 0; }
};
// AdamW (Loshchilov and Hutter 2019), torch's order, m^ and v^ bias-corrected:
//   w -= lr wd w;  then  w -= lr m^ / (sqrt(v^) + eps)
// g is scaled by clip first. All 2-D boxes of fp32 with free row stride.
struct AdamW {
  InOut w;  // fp32 master
  InOut m;
  InOut v;
  In g;
  In scalars;  // [4] f32: lr, step (1-based), clip factor, weight-decay factor
  std::optional<Out> compute = std::nullopt;  // bf16 copy of w
  float lr_multiplier = 1;
  float weight_decay = 0;  // multiplied by scalars[3]
  float beta1 = 0.9f;
  float beta2 = 0.95f;
  float eps = 1e-8f;
  FT_OP("adamw") {
    f("w", w), f("m", m), f("v", v);
    FT_OPTIONAL(compute);
    f("g", g), f("scalars", scalars);
  }
  void check() const {
    check_matrix("w", w, kF32);
    for (const auto& [name, t] :
         {std::pair<const char*, const Tensor&>{"m", m}, {"v", v}, {"g", g}})
      check_same(name, t, kF32, w);
    check_dense("scalars", scalars, kF32, {4});
    if (compute) check_same("compute", *compute, Dtype::BF16, w);
  }
  double flops() const { return 16.0 * w.size(); }
};

}  // namespace ft::ops
