// A linear layer over fused storage: y = alpha * x W^T [+ residual] [+ biases of its sections].
// The one place that would know another kind of linear (BitNet).
#pragma once

#include "core/context.h"
#include "core/param.h"

#include <vector>

namespace ft {

struct Linear {
  // A bias of some of the output columns: y[:, col + i] += scale * bias[i].
  struct Bias {
    Param param;  // [n] f32
    int64_t col = 0;
    float scale = 1;
  };

  Param weight;  // [out, in]
  std::vector<Bias> biases;

  int64_t out() const { return weight.rows; }
  int64_t in() const { return weight.cols; }

  void forward(Ctx& c, Out y, In x, float alpha = 1,
               std::optional<In> residual = std::nullopt) const;
  // dx = alpha * dy W
  void backward_input(Ctx& c, Out dx, In dy, float alpha = 1) const;
  // dW = alpha * dy^T x, and the biases' gradients. An op of its own, so a schedule may defer it.
  void backward_weight(Ctx& c, In dy, In x, float alpha = 1) const;

  template <class F>
  void visit(F&& f) {
    f(weight);
    for (Bias& b : biases) f(b.param);
  }
};

}  // namespace ft
