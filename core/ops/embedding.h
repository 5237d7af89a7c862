// Rows of a table by token.
#pragma once

#include "core/ops/op.h"

namespace ft::ops {

struct Embedding {
  Out y;      // [T, C], any activation dtype
  In ids;     // [T] i32, 0 <= id < rows of weight
  In weight;  // [V, C]
  float scale = 1;
  FT_OP("embedding") { f("y", y), f("ids", ids), f("weight", weight); }
  void check() const {
    check_rows("y", y, kFloat, {kAny, kAny});
    check_dense("ids", ids, kI32, {y.rows()});
    check_rows("weight", weight, kFloat, {kAny, y.cols()});
  }
  double flops() const { return 0; }
  double touched() const {
    return static_cast<double>(y.bytes() + ids.bytes() + y.size() * size_of(weight.dtype));
  }
};
// dweight[id] = scale * sum over tokens with that id of dy, in token order. With Overwrite all
// other rows become 0.
struct EmbeddingGrad {
  Out dweight;  // [V, C] f32
  In dy;        // [T, C]
  In ids;       // [T] i32
  float scale = 1;
  int64_t padding_id = -1;  // this row gets no gradient (torch's padding_idx); -1 = none
  Grad grad = Grad::Accumulate;
  FT_OP("embedding_grad") { f("dweight", dweight), f("dy", dy), f("ids", ids); }
  void check() const {
    check_rows("dy", dy, kFloat, {kAny, kAny});
    check_dense("ids", ids, kI32, {dy.rows()});
    check_rows("dweight", dweight, kF32, {kAny, dy.cols()});
  }
  double flops() const { return static_cast<double>(dy.size()); }
  double touched() const {  // its rows are read and written; Overwrite clears the others
    const int64_t rows = 2 * dy.size() * size_of(dweight.dtype);
    const int64_t cleared = grad == Grad::Overwrite ? dweight.bytes() : 0;
    return static_cast<double>(dy.bytes() + ids.bytes() + rows + cleared);
  }
};

}  // namespace ft::ops
