// Copies, reductions, AdamW and the device; row ops with one thread against more, bit by bit.
#include "tests/ops/case.h"

#include "cpu/common.h"
#include "cpu/device.h"
#include "tests/reference/optimizer.h"

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

TEST_CASE("sum, abs_max and clip_factor", "[reduce]") {
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
  Buffer squares(Dtype::F64, 1), factor(Dtype::F32, 1);
  const auto clip = [&](double sum, float limit) {
    squares.fill(sum);
    run(ops::ClipFactor{.factor = *factor, .sum_squares = *squares, .max_norm = limit});
    return factor.get(0);
  };
  CHECK(clip(16, 1) == Approx(1 / (4 + 1e-6)));
  CHECK(clip(0.25, 1) == 1);
  CHECK(clip(1e9, 0) == 1);
}

namespace {

struct AdamWState {
  Buffer w, m, v, g, low, scalars{Dtype::F32, 4};
  AdamWState(int64_t rows, int64_t cols, int64_t gap)
      : w(Dtype::F32, rows, cols, gap), m(w), v(w), g(w), low(Dtype::BF16, rows, cols, gap) {
    w.random(1), m.fill(0), v.fill(0);
  }
  void step(int count, float lr, float clip) {
    scalars.assign({lr, static_cast<double>(count), clip, 0.5});
    g.random(static_cast<uint64_t>(10 + count), 0.3);
    run(ops::AdamW{.w = *w,
                   .m = *m,
                   .v = *v,
                   .g = *g,
                   .scalars = *scalars,
                   .compute = *low,
                   .lr_multiplier = 2,
                   .weight_decay = 0.1f});
  }
};

}  // namespace

TEST_CASE("adamw equals its twin over steps", "[optimizer]") {
  FT_ON_EACH_BACKEND;
  for (int64_t gap : {0, 5}) {
    AdamWState s(9, 17, gap);
    const float lr = 1e-2f, clip = 0.75f;  // the op's floats, widened
    reference::AdamW twin{2.0 * lr, 0.9f,         0.95f,          1e-8f,         0.5 * 0.1f,
                          clip,     s.w.values(), Vector(9 * 17), Vector(9 * 17)};
    for (int count = 1; count <= 20; ++count) {
      s.step(count, lr, clip);
      twin.step(count, s.g.values());
    }
    check_close("w", s.w, twin.w, kTight);
    check_close("m", s.m, twin.m, kTight);
    check_close("v", s.v, twin.v, kTight);
    check_close("bf16 copy", s.low, twin.w, kLoose);
  }
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

Case adamw_case() {
  return {"adamw",
          [] {
            AdamWState s(61, 333, 2);
            for (int count = 1; count <= 3; ++count) s.step(count, 1e-2f, 0.5f);
            return std::vector<Output>{{"w", s.w}, {"m", s.m}, {"v", s.v}, {"low", s.low}};
          },
          [] { return std::vector<Want>{}; }};
}

}  // namespace

TEST_CASE("row ops, reductions and adamw do not depend on the number of threads", "[threads]") {
  FT_ON_EACH_BACKEND;
  for (Dtype dtype : kBoth) check_threads(rows_case(dtype)), check_threads(elementwise_case(dtype));
  check_threads(adamw_case());
}

TEST_CASE("row ops, reductions and adamw: backends agree", "[backends]") {
  for (Dtype dtype : kBoth)
    check_backends(rows_case(dtype)), check_backends(elementwise_case(dtype));
  check_backends(adamw_case());
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
