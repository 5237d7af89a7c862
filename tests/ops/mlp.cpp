// SwiGLU against its twin in double, its gradient against finite differences; silu by itself.
#include "tests/ops/case.h"

#include "cpu/common.h"
#include "tests/reference/mlp.h"

#include <limits>

using namespace ft;
using namespace ft::test;

TEST_CASE("swiglu and its gradient", "[elementwise]") {
  FT_ON_EACH_BACKEND;
  for (Dtype dtype : kBoth)
    for (auto [T, C] : {std::array<int64_t, 2>{1, 1}, {5, 13}, {2, 37}, {9, 40}}) {
      INFO(name_of(dtype) << " " << T << " x " << C);
      const int64_t gap = gap_of(C);
      Buffer wide(dtype, T, 2 * C), y(dtype, T, C, gap), dy(dtype, T, C, gap),
          dgate(dtype, T, C, gap), dup(dtype, T, C, gap);
      wide.random(1, 3), dy.random(2);  // gate and up are column views of one projection
      const ops::SwiGluInputs in{.gate = wide.tensor().columns(0, C),
                                 .up = wide.tensor().columns(C, 2 * C),
                                 .gate_scale = 0.75f};
      Vector g, u;
      for (int64_t i = 0; i < T * C; ++i) {
        g.push_back(wide.get(i / C * 2 * C + i % C));
        u.push_back(wide.get(i / C * 2 * C + C + i % C));
      }
      run(ops::SwiGlu{.in = in, .y = *y});
      check_close("y", y, reference::swiglu(g, u, 0.75), tolerance(dtype));
      run(ops::SwiGluGrad{.in = in, .dy = *dy, .dgate = *dgate, .dup = *dup});
      const Vector dyv = dy.values();
      check_gradient(
          "dgate", dgate, g, dyv, [&](const Vector& v) { return reference::swiglu(v, u, 0.75); },
          tolerance(dtype));
      check_gradient(
          "dup", dup, u, dyv, [&](const Vector& v) { return reference::swiglu(g, v, 0.75); },
          tolerance(dtype));
    }
}

TEST_CASE("silu stays finite and exact at the ends", "[elementwise]") {
  for (float x : {-1000.0f, -100.0f, -88.5f, -87.0f, 0.0f, 87.0f, 88.5f, 1000.0f}) {
    CHECK(cpu::silu(x) == Approx(x / (1 + std::exp(-static_cast<double>(x)))).margin(1e-30));
    CHECK(std::isfinite(cpu::silu_slope(x)));
  }
  CHECK(cpu::exp_f(88.5f) == Approx(std::exp(88.5)));
  CHECK(cpu::exp_f(-std::numeric_limits<float>::infinity()) == 0);
  CHECK(std::isinf(cpu::exp_f(100)));
  CHECK(std::isnan(cpu::exp_f(std::nanf(""))));
  double worst = 0;
  for (int i = -8700; i <= 8850; ++i) {
    const float x = static_cast<float>(i) * 0.01f;
    const double exact = std::exp(static_cast<double>(x));
    worst = std::max(worst, std::abs(cpu::exp_f(x) - exact) / exact);
  }
  CHECK(worst < 2.4e-7);
}
