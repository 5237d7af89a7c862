// The gated activation of the MLP.
#pragma once

#include "core/ops/op.h"

namespace ft::ops {

// y = up * silu(gate_scale * gate)
struct SwiGlu {
  Out y;    // [T, C]
  In gate;  // [T, C]
  In up;    // [T, C]
  float gate_scale = 1;
  FT_OP("swiglu") { f("y", y), f("gate", gate), f("up", up); }
  double flops() const { return 5.0 * y.size(); }
};
struct SwiGluGrad {
  Out dgate;
  Out dup;
  In dy;
  In gate;
  In up;
  float gate_scale = 1;
  FT_OP("swiglu_grad") {
    f("dgate", dgate), f("dup", dup), f("dy", dy), f("gate", gate), f("up", up);
  }
  double flops() const { return 10.0 * dy.size(); }
};

}  // namespace ft::ops
