#include "models/layers/linear.h"

namespace ft {

namespace {

// Of the storage, the share that pieces fill; the rest is there for alignment.
double filled(const Param& weight) {
  int64_t elements = 0;
  for (const Piece& piece : weight.pieces) elements += piece.size();
  return static_cast<double>(elements) / static_cast<double>(weight.size());
}

}  // namespace

void Linear::forward(Ctx& c, Out y, In x, float alpha, std::optional<In> residual) const {
  c(ops::Gemm{.y = y,
              .a = x,
              .b = weight.value,
              .alpha = alpha,
              .residual = residual,
              .share = filled(weight)});
  for (const Bias& b : biases) {
    InOut columns = y.columns(b.col, b.col + b.param.rows);
    columns.kept = y.kept;
    c(ops::AddBias{.y = columns, .bias = b.param.value, .scale = b.scale});
  }
}

void Linear::backward_input(Ctx& c, Out dx, In dy, float alpha) const {
  c(ops::Gemm{.y = dx, .a = dy, .b = weight.value, .trans_b = false, .alpha = alpha});
}

void Linear::backward_weight(Ctx& c, In dy, In x, float alpha) const {
  c(ops::Gemm{.y = weight.grad,
              .a = dy,
              .b = x,
              .trans_a = true,
              .trans_b = false,
              .alpha = alpha,
              .grad = c.grad});
  for (const Bias& b : biases)
    c(ops::AddBiasGrad{.dbias = b.param.grad,
                       .dy = dy.columns(b.col, b.col + b.param.rows),
                       .scale = b.scale,
                       .grad = c.grad});
}

}  // namespace ft
