// RMSNorm over the width of the residual stream.
#pragma once

#include "core/context.h"
#include "core/param.h"
#include "models/layers/slots.h"

#include <string>

namespace ft {

struct Norm {
  Param weight;  // [d]
  float eps = 1e-5f;

  // name: of the weight in checkpoints.
  void declare(const std::string& name, int64_t width, double epsilon);

  struct Saved {
    Slot y, rstd;  // [T, d] compute dtype, [T] f32
  };
  // which tells the norms of a block apart.
  Saved saved(SlotBank& bank, const std::string& which, Dtype compute, int64_t tokens) const;

  void forward(Ctx& c, const Saved& s, const Tensor& x) const;
  // dx = gradient of x [+ residual]; may be residual itself.
  void backward(Ctx& c, const Tensor& rstd, const Tensor& x, const Tensor& dy, const Tensor& dx,
                std::optional<In> residual = std::nullopt) const;

  template <class F>
  void visit(F&& f) {
    f(weight);
  }
};

}  // namespace ft
