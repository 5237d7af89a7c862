// RMSNorm, and the gate of Mamba-2 with its grouped norm.
#pragma once

#include "core/ops/op.h"

#include <optional>

namespace ft::ops {

// y = w * x * rstd,  rstd = 1 / sqrt(mean(x^2) + eps)
struct RmsNormInputs {
  In x;  // [T, C] residual dtype (may differ from y's)
  In w;  // [C] f32
  FT_INPUTS { f("x", x), f("w", w); }
  void check() const {
    check_rows("x", x, kFloat, {kAny, kAny});
    check_dense("w", w, kF32, {x.cols()});
  }
};
struct RmsNorm {
  RmsNormInputs in;
  Out y;     // [T, C] activation dtype
  Out rstd;  // [T] f32
  float eps = 1e-5f;
  FT_OP("rms_norm") {
    f("y", y), f("rstd", rstd);
    in.args(f);
  }
  void check() const {
    in.check();
    check_rows("y", y, kFloat, {in.x.rows(), in.x.cols()});
    check_dense("rstd", rstd, kF32, {in.x.rows()});
  }
  double flops() const { return 4.0 * in.x.size(); }
};
// dx = rstd * (g - x rstd^2 mean(g x)) [+ dresidual],  g = dy w;   dw = sum_t dy x rstd
struct RmsNormGrad {
  RmsNormInputs in;
  In rstd;
  In dy;                                       // [T, C]
  Out dx;                                      // [T, C] residual dtype; may be dresidual's memory
  Out dw;                                      // [C] f32
  std::optional<In> dresidual = std::nullopt;  // [T, C], the gradient that bypasses the norm
  Grad grad = Grad::Accumulate;
  FT_OP("rms_norm_grad") {
    f("dx", dx), f("dw", dw), f("dy", dy), f("rstd", rstd);
    in.args(f);
    FT_OPTIONAL(dresidual);
  }
  void check() const {
    const int64_t T = in.x.rows(), C = in.x.cols();
    in.check();
    check_dense("rstd", rstd, kF32, {T});
    check_rows("dy", dy, kFloat, {T, C});
    check_rows("dx", dx, in.x.dtype, {T, C});
    check_dense("dw", dw, kF32, {C});
    check_rows("dresidual", dresidual, in.x.dtype, {T, C});
  }
  double flops() const { return 10.0 * in.x.size(); }
};

// The gate of Mamba-2, with its optional grouped RMSNorm. s(z) = silu(z_scale * z).
//   without w:                  y = out_scale * x * s(z)
//   w, norm_before_gate false:  y = out_scale * w * norm(x * s(z))
//   w, norm_before_gate true:   y = out_scale * w * norm(x) * s(z)
// norm over each of `groups` runs of C / groups channels.
struct GatedNormInputs {
  In x;                                // [T, C]
  In z;                                // [T, C]
  std::optional<In> w = std::nullopt;  // [C] f32
  float z_scale = 1;
  float out_scale = 1;
  int64_t groups = 1;
  bool norm_before_gate = false;
  FT_INPUTS {
    f("x", x), f("z", z);
    FT_OPTIONAL(w);
  }
  void check() const {
    check_rows("x", x, kFloat, {kAny, kAny});
    check_rows("z", z, x.dtype, {x.rows(), x.cols()});
    check_dense("w", w, kF32, {x.cols()});
    FT_CHECK(groups > 0 && x.cols() % groups == 0, "{} channels are not {} groups", x.cols(),
             groups);
  }
};
struct GatedNorm {
  GatedNormInputs in;
  Out y;                                   // [T, C]
  std::optional<Out> rstd = std::nullopt;  // [T, groups] f32; with w
  float eps = 1e-5f;
  FT_OP("gated_norm") {
    f("y", y);
    FT_OPTIONAL(rstd);
    in.args(f);
  }
  void check() const {
    in.check();
    check_rows("y", y, in.x.dtype, {in.x.rows(), in.x.cols()});
    check_goes_with("rstd", rstd.has_value(), "w", in.w.has_value());
    check_dense("rstd", rstd, kF32, {in.x.rows(), in.groups});
  }
  double flops() const { return 10.0 * in.x.size(); }
};
struct GatedNormGrad {
  GatedNormInputs in;
  In dy;                                 // [T, C]
  Out dx;                                // [T, C]
  Out dz;                                // [T, C], gradient of the raw z (z_scale included)
  std::optional<Out> dw = std::nullopt;  // [C] f32; with w
  std::optional<In> rstd = std::nullopt;
  Grad grad = Grad::Accumulate;
  FT_OP("gated_norm_grad") {
    f("dx", dx), f("dz", dz);
    FT_OPTIONAL(dw);
    f("dy", dy);
    FT_OPTIONAL(rstd);
    in.args(f);
  }
  void check() const {
    const int64_t T = in.x.rows(), C = in.x.cols();
    in.check();
    check_rows("dy", dy, in.x.dtype, {T, C});
    check_rows("dx", dx, in.x.dtype, {T, C});
    check_rows("dz", dz, in.x.dtype, {T, C});
    check_goes_with("dw", dw.has_value(), "w", in.w.has_value());
    check_dense("dw", dw, kF32, {C});
    check_goes_with("rstd", rstd.has_value(), "w", in.w.has_value());
    check_dense("rstd", rstd, kF32, {T, in.groups});
  }
  double flops() const { return 25.0 * in.x.size(); }
};

}  // namespace ft::ops
