// Tensors to one number.
#pragma once

#include "core/ops/op.h"

namespace ft::ops {

// out (+)= sum of x, or of x^2, in fp64 with a fixed order. x fp32/bf16, up to two dims, rows may
// be strided.
struct Sum {
  Out out;  // [1] f64
  In x;
  bool squared = false;
  Grad grad = Grad::Overwrite;
  FT_OP("sum") { f("out", out), f("x", x); }
  void check() const {
    check_dense("out", out, kF64, {1});
    check_matrix("x", x, kFloat);
  }
  double flops() const { return 2.0 * x.size(); }
};
// out = max |x|; NaN wins
struct AbsMax {
  Out out;  // [1] f32
  In x;
  FT_OP("abs_max") { f("out", out), f("x", x); }
  void check() const {
    check_dense("out", out, kF32, {1});
    check_matrix("x", x, kFloat);
  }
  double flops() const { return static_cast<double>(x.size()); }
};

}  // namespace ft::ops
