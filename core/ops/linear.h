// Matrix products and biases.
#pragma once

#include "core/ops/op.h"

#include <optional>

namespace ft::ops {

// y = alpha * op(a) op(b) [+ residual] [+ y if Accumulate];  op(a) [M, K], op(b) [K, N], y [M, N].
// a and b share a dtype (fp32 or bf16), y and residual another. fp32 accumulation. One matrix is
// added, as matrix libraries have it: a residual, which may be y itself, or y under Accumulate.
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
  void check() const {
    const int64_t M = trans_a ? a.cols() : a.rows(), K = trans_a ? a.rows() : a.cols();
    const int64_t N = trans_b ? b.rows() : b.cols();
    check_rows("a", a, kFloat, {kAny, kAny});
    check_rows("b", b, a.dtype, {trans_b ? N : K, trans_b ? K : N});
    check_rows("y", y, kFloat, {M, N});
    check_rows("residual", residual, y.dtype, {M, N});
    FT_CHECK(K > 0, "a and b have no inner dimension: sums of nothing");
    FT_CHECK(!residual || grad == Grad::Overwrite, "a residual and y cannot both be added");
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
  void check() const {
    check_rows("y", y, kFloat, {kAny, kAny});
    check_dense("bias", bias, kF32, {y.cols()});
  }
  double flops() const { return static_cast<double>(y.size()); }
};
// dbias = scale * sum_t dy[t, :]
struct AddBiasGrad {
  Out dbias;  // [C] f32
  In dy;      // [T, C]
  float scale = 1;
  Grad grad = Grad::Accumulate;
  FT_OP("add_bias_grad") { f("dbias", dbias), f("dy", dy); }
  void check() const {
    check_rows("dy", dy, kFloat, {kAny, kAny});
    check_dense("dbias", dbias, kF32, {dy.cols()});
  }
  double flops() const { return static_cast<double>(dy.size()); }
};

}  // namespace ft::ops
