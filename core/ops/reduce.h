// Sums and peaks of tensors.
#pragma once

#include "core/ops/op.h"

namespace ft::ops {

// Sums of parameters and activations add up runs of so many elements of a row, then the runs in
// order.
inline constexpr int64_t kRun = 4096;

// out (+)= sum of x, or of x^2, in fp64 with a fixed order. x fp32/bf16, up to two dims, rows may
// be strided.
struct Sum {
  Out out;  // [1] f64
  In x;
  bool squared = false;
  Grad grad = Grad::Overwrite;
  FT_OP("sum") { f("out", out), f("x", x); }
  void check() const {
    check_dense("out", out, kF64, {1});
    check_matrix("x", x, kFloat);
  }
  double flops() const { return 2.0 * x.size(); }
};
// out = max |x|; NaN wins
struct AbsMax {
  Out out;  // [1] f32
  In x;
  FT_OP("abs_max") { f("out", out), f("x", x); }
  void check() const {
    check_dense("out", out, kF32, {1});
    check_matrix("x", x, kFloat);
  }
  double flops() const { return static_cast<double>(x.size()); }
};
// What each row of a micro-batch adds to its group (a source of data):
//   sums[g] += sum of the row's losses,  sums[groups + g] += number of its labels that count
// A row's losses are added in order, then rows in order, in fp64.
struct SumByRow {
  InOut sums;       // [2 * groups] f64
  In losses;        // [T] f32, 0 where the label does not count
  In labels;        // [T] i32; negative: does not count
  In group_of_row;  // [B] i32, 0 <= group < groups; T = B rows of equal length
  FT_OP("sum_by_row") {
    f("sums", sums), f("losses", losses), f("labels", labels), f("group_of_row", group_of_row);
  }
  void check() const {
    const int64_t T = losses.size(), rows = group_of_row.size();
    check_dense("losses", losses, kF32, {kAny});
    check_dense("labels", labels, kI32, {T});
    check_dense("group_of_row", group_of_row, kI32, {kAny});
    FT_CHECK(rows > 0 ? T % rows == 0 : T == 0, "{} losses are not {} rows of equal length", T,
             rows);
    check_dense("sums", sums, kF64, {kAny});
    FT_CHECK(sums.size() % 2 == 0, "sums has {} elements, wanted two for each group", sums.size());
  }
  double flops() const { return static_cast<double>(losses.size()); }
};

}  // namespace ft::ops
