// Row ops and reductions on every backend and with any number of threads; their values: the tests of
// their families.
#include "tests/ops/case.h"

using namespace ft;
using namespace ft::test;

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
