// The gated activation of the MLP.
#pragma once

#include "core/ops/op.h"

namespace ft::ops {

// y = up * silu(gate_scale * gate)
struct SwiGluInputs {
  In gate;  // [T, C]
  In up;    // [T, C]
  float gate_scale = 1;
  FT_INPUTS { f("gate", gate), f("up", up); }
  void check() const {
    check_rows("gate", gate, kFloat, {kAny, kAny});
    check_rows("up", up, gate.dtype, {gate.rows(), gate.cols()});
  }
};
struct SwiGlu {
  SwiGluInputs in;
  Out y;  // [T, C]
  FT_OP("swiglu") {
    f("y", y);
    in.args(f);
  }
  void check() const {
    in.check();
    check_rows("y", y, in.gate.dtype, {in.gate.rows(), in.gate.cols()});
  }
  double flops() const { return 5.0 * y.size(); }
};
struct SwiGluGrad {
  SwiGluInputs in;
  In dy;
  Out dgate;
  Out dup;
  FT_OP("swiglu_grad") {
    f("dgate", dgate), f("dup", dup), f("dy", dy);
    in.args(f);
  }
  void check() const {
    const int64_t T = in.gate.rows(), C = in.gate.cols();
    in.check();
    check_rows("dy", dy, in.gate.dtype, {T, C});
    check_rows("dgate", dgate, in.gate.dtype, {T, C});
    check_rows("dup", dup, in.gate.dtype, {T, C});
  }
  double flops() const { return 10.0 * dy.size(); }
};

}  // namespace ft::ops
