// Sums and peaks of tensors.
#include "tests/ops/case.h"

#include <algorithm>

using namespace ft;
using namespace ft::test;

TEST_CASE("sum and abs_max", "[reduce]") {
  FT_ON_EACH_BACKEND;
  for (Dtype dtype : kBoth)
    for (int64_t gap : {0, 3}) {
      Buffer x(dtype, 7, 5003, gap), sum(Dtype::F64, 1), high(Dtype::F32, 1);
      const Vector xv = x.random(1).values();
      double plain = 0, squares = 0, most = 0;
      for (double v : xv) plain += v, squares += v * v, most = std::max(most, std::abs(v));
      run(ops::Sum{.out = *sum, .x = *x});
      CHECK(sum.get(0) == Approx(plain).epsilon(1e-9));
      run(ops::Sum{.out = *sum, .x = *x, .squared = true, .grad = Grad::Accumulate});
      CHECK(sum.get(0) == Approx(plain + squares).epsilon(1e-12));
      run(ops::AbsMax{.out = *high, .x = *x});
      CHECK(high.get(0) == most);
      x.set(4711, std::nan(""));
      run(ops::AbsMax{.out = *high, .x = *x});
      CHECK(std::isnan(high.get(0)));
      run(ops::Sum{.out = *sum, .x = *x, .squared = true});
      CHECK(std::isnan(sum.get(0)));
    }
}

TEST_CASE("sum_by_row adds to the group of each row", "[reduce]") {
  FT_ON_EACH_BACKEND;
  const int64_t rows = 7, length = 13, groups = 4;
  Buffer losses(Dtype::F32, rows * length), labels(Dtype::I32, rows * length),
      group(Dtype::I32, rows), sums(Dtype::F64, 2 * groups);
  losses.random(1), group.assign({2, 0, 2, 3, 0, 2, 2});  // group 1 has no row
  for (int64_t t = 0; t < rows * length; ++t) labels.set(t, t % 5 == 0 ? -100 : t % 3);
  Vector want = sums.fill(0.5).values();
  for (int pass = 0; pass < 2; ++pass) {
    for (int64_t r = 0; r < rows; ++r) {
      double loss = 0;
      for (int64_t t = r * length; t < (r + 1) * length; ++t) loss += losses.get(t);
      const auto g = static_cast<size_t>(group.get(r));
      want[g] += loss;
      for (int64_t t = r * length; t < (r + 1) * length; ++t)
        want[groups + g] += labels.get(t) >= 0;
    }
    run(ops::SumByRow{.sums = *sums, .losses = *losses, .labels = *labels, .group_of_row = *group});
  }
  CHECK(sums.values() == want);  // in the same order
  CHECK(sums.get(1) == 0.5);
  run(ops::SumByRow{.sums = *sums,
                    .losses = Tensor(nullptr, Dtype::F32, {0}),
                    .labels = Tensor(nullptr, Dtype::I32, {0}),
                    .group_of_row = Tensor(nullptr, Dtype::I32, {0})});
  CHECK(sums.values() == want);
  CHECK_THROWS_AS(run(ops::SumByRow{.sums = *sums,
                                    .losses = losses.tensor().row_range(0, 12),
                                    .labels = *labels,
                                    .group_of_row = *group}),
                  Error);
}
