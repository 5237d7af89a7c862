// Causal depthwise convolution + SiLU.
#pragma once

#include "core/ops/op.h"

#include <array>
#include <optional>

namespace ft::ops {

//   y[t, c] = silu(bias[c] + sum_j w[c, j] * scale(c) * x[t - (k-1) + j, c])
// A tap before docs[t] is 0. scale(c): the channels are three sections x | B | C, each with its
// own multiplier. history: raw inputs of the k-1 tokens before each sequence (context parallelism,
// decoding).
struct Conv1dInputs {
  In x;  // [T, C]
  In w;  // [C, k] f32
  In docs;
  std::optional<In> bias = std::nullopt;     // [C] f32
  std::optional<In> history = std::nullopt;  // [B * (k-1), C] activation dtype
  std::array<int64_t, 3> sections{};         // channels of x, B, C; they add up to C
  std::array<float, 3> scales{1, 1, 1};
  int64_t sequences = 1;  // B
  FT_INPUTS {
    f("x", x), f("w", w), f("docs", docs);
    FT_OPTIONAL(bias);
    FT_OPTIONAL(history);
  }
  int64_t history_rows() const { return sequences * (w.cols() - 1); }
  void check() const {
    const int64_t C = x.cols();
    check_rows("x", x, kFloat, {kAny, kAny});
    check_dense("w", w, kF32, {C, kAny});
    check_dense("docs", docs, kI32, {x.rows()});
    check_dense("bias", bias, kF32, {C});
    check_rows("history", history, x.dtype, {history_rows(), C});
    check_sequences(x.rows(), sequences);
    FT_CHECK(sections[0] + sections[1] + sections[2] == C,
             "sections {} + {} + {} are not {} channels", sections[0], sections[1], sections[2], C);
  }
};
struct Conv1d {
  Conv1dInputs in;
  Out y;  // [T, C]
  FT_OP("conv1d") {
    f("y", y);
    in.args(f);
  }
  void check() const {
    in.check();
    check_rows("y", y, in.x.dtype, {in.x.rows(), in.x.cols()});
  }
  double flops() const { return 2.0 * in.x.size() * in.w.cols(); }
};
struct Conv1dGrad {
  Conv1dInputs in;
  In dy;                                       // [T, C]
  Out dx;                                      // [T, C], gradient of the raw x (scale included)
  Out dw;                                      // [C, k] f32
  std::optional<Out> dbias = std::nullopt;     // [C] f32; with bias
  std::optional<Out> dhistory = std::nullopt;  // [B * (k-1), C] f32
  Grad grad = Grad::Accumulate;
  FT_OP("conv1d_grad") {
    f("dx", dx), f("dw", dw), f("dy", dy);
    in.args(f);
    FT_OPTIONAL(dbias);
    FT_OPTIONAL(dhistory);
  }
  void check() const {
    const int64_t T = in.x.rows(), C = in.x.cols();
    in.check();
    check_rows("dy", dy, in.x.dtype, {T, C});
    check_rows("dx", dx, in.x.dtype, {T, C});
    check_dense("dw", dw, kF32, {C, in.w.cols()});
    check_goes_with("dbias", dbias.has_value(), "bias", in.bias.has_value());
    check_dense("dbias", dbias, kF32, {C});
    check_dense("dhistory", dhistory, kF32, {in.history_rows(), C});
  }
  double flops() const { return 6.0 * in.x.size() * in.w.cols(); }
};

}  // namespace ft::ops
