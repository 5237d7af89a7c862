// Copies, reductions and the device; row ops with one thread against more, bit by bit.
#include "tests/ops/case.h"

#include "cpu/common.h"
#include "cpu/device.h"

#include <algorithm>

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

namespace {

// Of row ops whose values other tests look at.
Case rows_case(Dtype dtype) {
  return {fmt::format("row ops of {}", name_of(dtype)),
          [dtype] {
            const int64_t T = 333, C = 258;
            const auto fresh = [&](uint64_t stream) {
              return Buffer(dtype, T, C, 6).random(stream);
            };
            Buffer x = fresh(1), z = fresh(2), dy = fresh(3), y = fresh(4), dx = fresh(5),
                   dz = fresh(6), y3 = fresh(4), dx3 = fresh(5);
            Buffer w(Dtype::F32, C), rstd(Dtype::F32, T), rstd3(Dtype::F32, T, 3),
                dw(Dtype::F32, C), dw3(Dtype::F32, C);
            w.random(7), dw.random(8), dw3.random(9);
            const ops::RmsNormInputs in{.x = *x, .w = *w};
            run(ops::RmsNorm{.in = in, .y = *y, .rstd = *rstd});
            run(ops::RmsNormGrad{.in = in, .rstd = *rstd, .dy = *dy, .dx = *dx, .dw = *dw});
            const ops::GatedNormInputs gated{.x = *x, .z = *z, .w = *w, .groups = 3};
            run(ops::GatedNorm{.in = gated, .y = *y3, .rstd = *rstd3});
            run(ops::GatedNormGrad{
                .in = gated, .dy = *dy, .dx = *dx3, .dz = *dz, .dw = *dw3, .rstd = *rstd3});
            return std::vector<Output>{{"y", y},     {"rstd", rstd}, {"dx", dx},
                                       {"dw", dw},   {"y3", y3},     {"rstd3", rstd3},
                                       {"dx3", dx3}, {"dz", dz},     {"dw3", dw3}};
          },
          [] { return std::vector<Want>{}; }};
}

Case elementwise_case(Dtype dtype) {
  return {fmt::format("elementwise and reductions of {}", name_of(dtype)),
          [dtype] {
            const int64_t T = 333, C = 258;
            const auto fresh = [&](uint64_t stream) {
              return Buffer(dtype, T, C, 6).random(stream);
            };
            Buffer x = fresh(1), z = fresh(2), dy = fresh(3), y = fresh(4), dx = fresh(5),
                   dz = fresh(6);
            Buffer bias(Dtype::F32, C), sum(Dtype::F64, 1), high(Dtype::F32, 1);
            bias.random(7);
            const ops::SwiGluInputs in{.gate = *x, .up = *z};
            run(ops::SwiGlu{.in = in, .y = *y});
            run(ops::SwiGluGrad{.in = in, .dy = *dy, .dgate = *dx, .dup = *dz});
            run(ops::AddBias{.y = *y, .bias = *bias});
            run(ops::AddBiasGrad{.dbias = *bias, .dy = *dy});
            run(ops::Add{.y = *x, .x = *y});
            run(ops::Sum{.out = *sum, .x = *x, .squared = true, .grad = Grad::Overwrite});
            run(ops::AbsMax{.out = *high, .x = *x});
            return std::vector<Output>{{"y", y}, {"dx", dx},   {"dz", dz},    {"bias", bias},
                                       {"x", x}, {"sum", sum}, {"high", high}};
          },
          [] { return std::vector<Want>{}; }};
}

}  // namespace

TEST_CASE("row ops and reductions do not depend on the number of threads", "[threads]") {
  FT_ON_EACH_BACKEND;
  for (Dtype dtype : kBoth) check_threads(rows_case(dtype)), check_threads(elementwise_case(dtype));
}

TEST_CASE("row ops and reductions: backends agree", "[backends]") {
  for (Dtype dtype : kBoth)
    check_backends(rows_case(dtype)), check_backends(elementwise_case(dtype));
}

TEST_CASE("the device gives zeroed aligned memory and counts it; workspaces only grow",
          "[device]") {
  const int before = omp_get_max_threads();
  auto device = cpu::open_device(2);
  CHECK(omp_get_max_threads() == 2);
  CHECK(device->kind() == DeviceKind::Cpu);
  CHECK(!device->description().empty());
  CHECK(device->memory_total() > (int64_t{1} << 28));
  auto* memory = static_cast<unsigned char*>(device->allocate(1001));
  CHECK(reinterpret_cast<uintptr_t>(memory) % 128 == 0);
  CHECK(std::all_of(memory, memory + 1001, [](unsigned char c) { return c == 0; }));
  CHECK(device->allocations() == 1);
  device->release(memory);
#ifndef __SANITIZE_ADDRESS__  // which ends the process instead
  CHECK_THROWS_AS(device->allocate(size_t{1} << 62), Error);
#endif
  cpu::open_device(0);
  CHECK(omp_get_max_threads() >= 1);
  omp_set_num_threads(before);

  void* first = cpu::workspace(15, 100);
  const int64_t growths = cpu::workspace_growths();
  CHECK(cpu::workspace(15, 50) == first);
  CHECK(cpu::workspace_growths() == growths);
  cpu::workspace(15, 100000);
  CHECK(cpu::workspace_growths() == growths + 1);
}
