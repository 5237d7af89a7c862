// DtPeak against the reference's dt, token by token.
#include "tests/ops/case.h"

#include "tests/reference/ssd.h"

using namespace ft;
using namespace ft::test;

namespace {

struct Shape {
  int64_t tokens, heads;
  double scale, low, high;
  Dtype dtype = Dtype::F32;
  double start = 0;
};

struct Run {
  Shape s;
  Buffer dt{s.dtype, s.tokens, s.heads, 2}, bias{Dtype::F32, s.heads}, peak{Dtype::F32, 1};
  reference::Ssd twin{};

  explicit Run(const Shape& shape) : s(shape) {
    std::mt19937_64 random{3};
    dt.uniform(random), bias.uniform(random, 1, -1), peak.fill(s.start);
    twin.H = s.heads, twin.dt = dt.values(), twin.dt_bias = bias.values();
    twin.dt_scale = s.scale, twin.dt_min = s.low, twin.dt_max = s.high;
  }
  double compute() {
    run(ops::DtPeak{.peak = InOut(*peak),
                    .dt = *dt,
                    .dt_bias = *bias,
                    .limits = {static_cast<float>(s.scale), static_cast<float>(s.low),
                               static_cast<float>(s.high)}});
    return peak.get(0);
  }
};

Case case_of(const Shape& shape) {
  return {fmt::format("{} tokens, {} heads, {}", shape.tokens, shape.heads, name_of(shape.dtype)),
          [shape] {
            Run r(shape);
            r.compute();
            return std::vector<Output>{{"peak", r.peak}};
          },
          [shape] {
            const Run r(shape);
            double want = shape.start;
            for (int64_t t = 0; t < shape.tokens; ++t)
              for (int64_t h = 0; h < shape.heads; ++h) want = std::max(want, r.twin.step(t, h));
            return std::vector<Want>{{"peak", {want}, 1e-5}};
          }};
}

}  // namespace

TEST_CASE("dt_peak is the largest dt of any token and head", "[ssd]") {
  FT_ON_EACH_BACKEND;
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  for (Shape s : {Shape{1, 1, 1, 0, kInfinity}, Shape{7, 3, 0.5, 0, kInfinity},
                  Shape{200, 24, -2, 0, kInfinity}, Shape{65, 6, 30, 0, kInfinity},
                  Shape{130, 5, 1.5, 0.1, 0.3}, Shape{9, 2, 1, 3, 5}})
    for (const Dtype dtype : kBoth) {
      s.dtype = dtype, s.start = 0;
      check(case_of(s));
      s.start = 100;
      CHECK(Run(s).compute() == 100);  // keeps what was larger
    }
}

TEST_CASE("dt_peak shows NaN", "[ssd]") {
  FT_ON_EACH_BACKEND;
  Run r({100, 4, 1, 0, 1, Dtype::F32, 5});
  r.dt.set(4 * 70 + 1, std::nan(""));
  CHECK(std::isnan(r.compute()));
}

TEST_CASE("dt_peak: backends and numbers of threads agree", "[ssd][backends]") {
  const Case k = case_of({200, 24, -2, 0, 10});
  check_backends(k);
  FT_ON_EACH_BACKEND;
  check_threads(k);
}
