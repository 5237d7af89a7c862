// Gated MLP: y = down(silu(gate(h)) * up(h)) [+ residual]; gate and up are one product. Multipliers:
// gate's through the activation, down's through its product.
#pragma once

#include "core/context.h"
#include "models/layers/linear.h"
#include "models/layers/slots.h"

#include <string>

namespace ft {

struct Mlp {
  int64_t width = 0;  // I
  float gate_scale = 1, down_scale = 1;
  Linear gate_up, down;

  // Parameters under `name` ("model.layers.3.feed_forward."), of a residual stream of width `hidden`.
  void declare(const std::string& name, int64_t hidden, Init init, bool bias);

  struct Saved {
    Slot gate_up;  // [T, 2 I]
    Slot act;      // [T, I]
  };
  Saved saved(SlotBank& bank, Dtype compute, int64_t tokens) const;

  void forward(Ctx& c, const Saved& s, const Tensor& h, const Slot& y,
               const Tensor& residual) const;
  // From dy: the gradient of h, in dy's dtype.
  Temp backward(Ctx& c, const Saved& s, const Tensor& h, const Tensor& dy) const;

  template <class F>
  void visit(F&& f) {
    gate_up.visit(f);
    down.visit(f);
  }

 private:
  ops::SwiGluInputs inputs(const Saved& s) const;
};

}  // namespace ft
