// Copies, sums and fills between dtypes and strides.
#include "tests/ops/case.h"

using namespace ft;
using namespace ft::test;

TEST_CASE("copy, add and fill between dtypes and strides", "[elementwise]") {
  FT_ON_EACH_BACKEND;
  constexpr Dtype kAll[] = {Dtype::F32, Dtype::BF16, Dtype::F64};
  for (Dtype from : kAll)
    for (Dtype to : kAll)
      for (float scale : {1.0f, 0.25f}) {
        INFO(name_of(from) << " to " << name_of(to) << " times " << scale);
        Buffer x(from, 5, 11, 3), y(to, 5, 11, 2);
        Vector want = x.random(1).values();
        for (double& v : want) v *= scale;
        run(ops::Copy{.y = *y, .x = *x, .scale = scale});
        const bool exact = to == Dtype::F64 || to == from;
        check_close("copy", y, want, exact ? 0 : tolerance(to));
      }
  for (Dtype a : kBoth)
    for (Dtype b : kBoth) {
      Buffer x(a, 3, 9, 1), y(b, 3, 9, 2);
      Vector want = x.random(1).values();
      const Vector yv = y.random(2).values();
      for (size_t i = 0; i < want.size(); ++i) want[i] += yv[i];
      run(ops::Add{.y = *y, .x = *x});
      check_close("add", y, want, tolerance(b));
    }
  for (Dtype dtype : {Dtype::F32, Dtype::BF16, Dtype::F64, Dtype::I32}) {
    Buffer y(dtype, 3, 5, 2), flat(dtype, 40001);
    run(ops::Fill{.y = *y, .value = -3});
    run(ops::Fill{.y = *flat, .value = 7});
    check_close("fill", y, Vector(15, -3), 0);
    check_close("fill of one dim", flat, Vector(40001, 7), 0);
  }
  Buffer x(Dtype::F32, 3, 5), y(Dtype::F32, 5, 3);
  CHECK_THROWS_AS(run(ops::Copy{.y = *y, .x = *x}), Error);
  CHECK_THROWS_AS(run(ops::Add{.y = *y, .x = *x}), Error);
}
