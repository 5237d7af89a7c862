// Matrix products and biases.
#pragma once

#include "core/ops/op.h"

#include <optional>

namespace ft::ops {

// y = alpha * op(a) op(b) [+ residual] [+ y if Accumulate];  op(a) [M, K], op(b) [K, N], y [M, N].
// a and b share a dtype (fp32 or bf16); y and residual are fp32 or bf16 each. fp32 accumulation.
// `residual` may be y itself only when the dtypes agree.
struct Gemm {
  Out y;
  In a;
  In b;
  bool trans_a = false;
  bool trans_b = true;  // weights are stored [out, in]
  float alpha = 1;
  std::optional<In> residual = std::nullopt;
  Grad grad = Grad::Overwrite;
  double share = 1;  // of the product that is more than padding
  FT_OP("gemm") {
    f("y", y), f("a", a), f("b", b);
    FT_OPTIONAL(residual);
  }
  double flops() const { return 2.0 * y.rows() * y.cols() * (trans_a ? a.rows() : a.cols()); }
  double model_flops() const { return share * flops(); }
};

// y[t, :] += scale * bias
struct AddBias {
  InOut y;  // [T, C]
  In bias;  // [C] f32
  float scale = 1;
  FT_OP("add_bias") { f("y", y), f("bias", bias); }
  double flops() const { return static_cast<double>(y.size()); }
};
// dbias = scale * sum_t dy[t, :]
struct AddBiasGrad {
  Out dbias;  // [C] f32
  In dy;      // [T, C]
  float scale = 1;
  Grad grad = Grad::Accumulate;
  FT_OP("add_bias_grad") { f("dbias", dbias), f("dy", dy); }
  double flops() const { return static_cast<double>(dy.size()); }
};

}  // namespace ft::ops
