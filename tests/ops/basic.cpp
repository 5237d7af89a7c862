// Norms, gates and SwiGLU against their twins in double; gradients against finite differences
// of the twins; strided views, odd sizes, both dtypes. Products: gemm.cpp.
// Copies, reductions: basic_reduce.cpp; the optimizer: optimizer.cpp.
#include "tests/ops/case.h"

#include "cpu/common.h"
#include "tests/reference/mlp.h"
#include "tests/reference/norm.h"

#include <limits>

using namespace ft;
using namespace ft::test;

TEST_CASE("rms_norm and its gradient", "[norm]") {
  FT_ON_EACH_BACKEND;
  for (Dtype dtype : kBoth)
    for (auto [T, C] : {std::array<int64_t, 2>{1, 1}, {3, 7}, {67, 5}, {2, 64}}) {
      INFO(name_of(dtype) << " " << T << " x " << C);
      Buffer x(Dtype::F32, T, C, 3), w(Dtype::F32, C), y(dtype, T, C, 2), rstd(Dtype::F32, T);
      x.random(1, 0.7, 0.1), w.random(2, 0.2, 1);
      const float eps = 1e-3f;
      const ops::RmsNormInputs in{.x = *x, .w = *w};
      run(ops::RmsNorm{.in = in, .y = *y, .rstd = *rstd, .eps = eps});
      Vector inverse;
      const Vector xv = x.values(), wv = w.values();
      check_close("y", y, reference::rms_norm(xv, wv, eps, 1, &inverse), tolerance(dtype));
      check_close("rstd", rstd, inverse, kTight);

      Buffer dy(dtype, T, C, 1), bypass(Dtype::F32, T, C, 2), dx(Dtype::F32, T, C, 4),
          dw(Dtype::F32, C);
      dy.random(3), bypass.random(4), dw.fill(0.5);
      run(ops::RmsNormGrad{
          .in = in, .rstd = *rstd, .dy = *dy, .dx = *dx, .dw = *dw, .dresidual = *bypass});
      const Vector dyv = dy.values();
      Vector want = differences(
          [&](const Vector& v) { return dot(reference::rms_norm(v, wv, eps), dyv); }, xv);
      for (int64_t i = 0; i < T * C; ++i) want[i] += bypass.get(i);
      check_close("dx", dx, want, kTight);
      want = differences([&](const Vector& v) { return dot(reference::rms_norm(xv, v, eps), dyv); },
                         wv);
      for (double& v : want) v += 0.5;
      check_close("dw", dw, want, kTight);
      run(ops::RmsNormGrad{.in = in,
                           .rstd = *rstd,
                           .dy = *dy,
                           .dx = *bypass,
                           .dw = *dw,
                           .dresidual = *bypass,
                           .grad = Grad::Overwrite});
      check_close("dx in place of dresidual", bypass.values(), dx.values(), 0);
      for (double& v : want) v -= 0.5;
      check_close("dw overwritten", dw, want, kTight);
    }
}

namespace {

// form 0: no norm; 1: norm after the gate; 2: norm before it
void check_gated(Dtype dtype, int64_t T, int64_t C, int64_t groups, int form) {
  INFO(name_of(dtype) << " " << T << " x " << C << " groups " << groups << " form " << form);
  const reference::GatedNorm s{0.75, 1.5, 1e-3, groups, form == 2};
  Buffer x(dtype, T, C, 3), z(dtype, T, C, 2), w(Dtype::F32, C), y(dtype, T, C, 1),
      rstd(Dtype::F32, T, groups);
  Buffer dy(dtype, T, C, 2), dx(dtype, T, C, 1), dz(dtype, T, C, 5), dw(Dtype::F32, C);
  x.random(1), z.random(2, 2), w.random(3, 0.2, 1), dy.random(4), dw.fill(0.25);
  ops::GatedNormInputs in{.x = *x,
                          .z = *z,
                          .z_scale = 0.75f,
                          .out_scale = 1.5f,
                          .groups = groups,
                          .norm_before_gate = form == 2};
  if (form) in.w = *w;
  ops::GatedNorm forward{.in = in, .y = *y, .eps = 1e-3f};
  if (form) forward.rstd = *rstd;
  run(forward);
  const Vector xv = x.values(), zv = z.values(), wv = form ? w.values() : Vector{},
               dyv = dy.values();
  Vector inverse;
  check_close("y", y, reference::gated_norm(s, xv, zv, wv, &inverse), tolerance(dtype));
  if (form) check_close("rstd", rstd, inverse, kTight);
  ops::GatedNormGrad backward{.in = in, .dy = *dy, .dx = *dx, .dz = *dz};
  if (form) backward.dw = *dw, backward.rstd = *rstd;
  run(backward);
  const auto twin = [&](const Vector& a, const Vector& b, const Vector& c) {
    return reference::gated_norm(s, a, b, c);
  };
  check_gradient(
      "dx", dx, xv, dyv, [&](const Vector& v) { return twin(v, zv, wv); }, tolerance(dtype));
  check_gradient(
      "dz", dz, zv, dyv, [&](const Vector& v) { return twin(xv, v, wv); }, tolerance(dtype));
  if (!form) return;
  Vector want = differences([&](const Vector& v) { return dot(twin(xv, zv, v), dyv); }, wv);
  for (double& v : want) v += 0.25;
  check_close("dw", dw, want, kTight);
}

}  // namespace

TEST_CASE("gated_norm and its gradient", "[norm]") {
  FT_ON_EACH_BACKEND;
  for (Dtype dtype : kBoth)
    for (int form = 0; form < 3; ++form) {
      check_gated(dtype, 3, 12, 1, form);
      check_gated(dtype, 3, 12, 3, form);
      check_gated(dtype, 1, 5, 1, form);
      check_gated(dtype, 66, 6, 2, form);
    }
}

TEST_CASE("swiglu and its gradient", "[elementwise]") {
  FT_ON_EACH_BACKEND;
  for (Dtype dtype : kBoth)
    for (auto [T, C] : {std::array<int64_t, 2>{1, 1}, {5, 13}, {2, 37}}) {
      INFO(name_of(dtype) << " " << T << " x " << C);
      Buffer wide(dtype, T, 2 * C), y(dtype, T, C, 1), dy(dtype, T, C, 2), dgate(dtype, T, C, 3),
          dup(dtype, T, C, 1);
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

TEST_CASE("add_bias and its gradient", "[elementwise]") {
  FT_ON_EACH_BACKEND;
  for (Dtype dtype : kBoth)
    for (auto [T, C] : {std::array<int64_t, 2>{1, 1}, {5, 13}, {130, 3}}) {
      Buffer y(dtype, T, C, 2), bias(Dtype::F32, C), dy(dtype, T, C, 1), dbias(Dtype::F32, C);
      y.random(1), bias.random(2), dy.random(3), dbias.fill(1);
      const Vector yv = y.values(), dyv = dy.values();
      run(ops::AddBias{.y = *y, .bias = *bias, .scale = 0.5f});
      check_close("y", y, reference::add_bias(yv, bias.values(), 0.5), tolerance(dtype));
      run(ops::AddBiasGrad{.dbias = *dbias, .dy = *dy, .scale = 0.5f});
      Vector want =
          differences([&](const Vector& v) { return dot(reference::add_bias(yv, v, 0.5), dyv); },
                      bias.values());
      for (double& v : want) v += 1;
      check_close("dbias", dbias, want, kTight);
    }
}
