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
struct Conv1d {
  Out y;  // [T, C]
  In x;   // [T, C]
  In w;   // [C, k] f32
  In docs;
  std::optional<In> bias = std::nullopt;     // [C] f32
  std::optional<In> history = std::nullopt;  // [B * (k-1), C] activation dtype
  std::array<int64_t, 3> sections{};         // channels of x, B, C; they add up to C
  std::array<float, 3> scales{1, 1, 1};
  int64_t sequences = 1;  // B
  FT_OP("conv1d") {
    f("y", y), f("x", x), f("w", w), f("docs", docs);
    FT_OPTIONAL(bias);
    FT_OPTIONAL(history);
  }
  double flops() const { return 2.0 * x.size() * w.cols(); }
};
struct Conv1dGrad {
  Out dx;  // [T, C], gradient of the raw x (scale included)
  Out dw;  // [C, k] f32
  In dy;
  In x;
  In w;
  In docs;
  std::optional<Out> dbias = std::nullopt;
  std::optional<In> bias = std::nullopt;
  std::optional<In> history = std::nullopt;
  std::optional<Out> dhistory = std::nullopt;  // [B * (k-1), C] f32
  std::array<int64_t, 3> sections{};
  std::array<float, 3> scales{1, 1, 1};
  int64_t sequences = 1;
  Grad grad = Grad::Accumulate;
  FT_OP("conv1d_grad") {
    f("dx", dx), f("dw", dw), f("dy", dy), f("x", x), f("w", w), f("docs", docs);
    FT_OPTIONAL(dbias);
    FT_OPTIONAL(bias);
    FT_OPTIONAL(history);
    FT_OPTIONAL(dhistory);
  }
  double flops() const { return 6.0 * x.size() * w.cols(); }
};

}  // namespace ft::ops
