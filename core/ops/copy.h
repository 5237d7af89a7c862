// Copies, sums and fills.
#pragma once

#include "core/ops/op.h"

namespace ft::ops {

// y = scale * x, between any two of fp32, bf16, fp64; equal shapes of up to two dims, rows may be
// strided.
struct Copy {
  Out y;
  In x;
  float scale = 1;
  FT_OP("copy") { f("y", y), f("x", x); }
  void check() const {
    check_matrix("x", x, kFloat | kF64);
    check_same("y", y, kFloat | kF64, x);
  }
  double flops() const { return 0; }
};
// y += x
struct Add {
  InOut y;
  In x;
  FT_OP("add") { f("y", y), f("x", x); }
  void check() const {
    check_matrix("x", x, kFloat);
    check_same("y", y, kFloat, x);
  }
  double flops() const { return static_cast<double>(y.size()); }
};
struct Fill {
  Out y;  // fp32, bf16, fp64 or int32; rows may be strided
  double value = 0;
  FT_OP("fill") { f("y", y); }
  void check() const { check_matrix("y", y, kFloat | kF64 | kI32); }
  double flops() const { return 0; }
};

}  // namespace ft::ops
