// RMSNorm, and the gate of Mamba-2 with its grouped norm.
#pragma once

#include "core/ops/op.h"

#include <optional>

namespace ft::ops {

// y = w * x * rstd,  rstd = 1 / sqrt(mean(x^2) + eps)
struct RmsNorm {
  Out y;     // [T, C] activation dtype
  Out rstd;  // [T] f32
  In x;      // [T, C] residual dtype (may differ from y's)
  In w;      // [C] f32
  float eps = 1e-5f;
  FT_OP("rms_norm") { f("y", y), f("rstd", rstd), f("x", x), f("w", w); }
  double flops() const { return 4.0 * x.size(); }
};
// dx = rstd * (g - x rstd^2 mean(g x)) [+ dresidual],  g = dy w;   dw = sum_t dy x rstd
struct RmsNormGrad {
  Out dx;  // [T, C] residual dtype; may be dresidual's memory
  Out dw;  // [C] f32
  In dy;   // [T, C]
  In x;
  In rstd;
  In w;
  std::optional<In> dresidual = std::nullopt;  // [T, C], the gradient that bypasses the norm
  Grad grad = Grad::Accumulate;
  FT_OP("rms_norm_grad") {
    f("dx", dx), f("dw", dw), f("dy", dy), f("x", x), f("rstd", rstd), f("w", w);
    FT_OPTIONAL(dresidual);
  }
  double flops() const { return 10.0 * x.size(); }
};

// The gate of Mamba-2, with its optional grouped RMSNorm. s(z) = silu(z_scale * z).
//   without w:                  y = out_scale * x * s(z)
//   w, norm_before_gate false:  y = out_scale * w * norm(x * s(z))
//   w, norm_before_gate true:   y = out_scale * w * norm(x) * s(z)
// norm over each of `groups` runs of C / groups channels.
struct GatedNorm {
  Out y;                                   // [T, C]
  In x;                                    // [T, C]
  In z;                                    // [T, C]
  std::optional<Out> rstd = std::nullopt;  // [T, groups] f32; with w
  std::optional<In> w = std::nullopt;      // [C] f32
  float z_scale = 1;
  float out_scale = 1;
  float eps = 1e-5f;
  int64_t groups = 1;
  bool norm_before_gate = false;
  FT_OP("gated_norm") {
    f("y", y);
    FT_OPTIONAL(rstd);
    f("x", x), f("z", z);
    FT_OPTIONAL(w);
  }
  double flops() const { return 10.0 * x.size(); }
};
struct GatedNormGrad {
  Out dx;  // [T, C]
  Out dz;  // [T, C], gradient of the raw z (z_scale included)
  In dy;
  In x;
  In z;
  std::optional<Out> dw = std::nullopt;  // [C] f32; with w
  std::optional<In> rstd = std::nullopt;
  std::optional<In> w = std::nullopt;
  float z_scale = 1;
  float out_scale = 1;
  int64_t groups = 1;
  bool norm_before_gate = false;
  Grad grad = Grad::Accumulate;
  FT_OP("gated_norm_grad") {
    f("dx", dx), f("dz", dz);
    FT_OPTIONAL(dw);
    f("dy", dy), f("x", x), f("z", z);
    FT_OPTIONAL(rstd);
    FT_OPTIONAL(w);
  }
  double flops() const { return 25.0 * x.size(); }
};

}  // namespace ft::ops
