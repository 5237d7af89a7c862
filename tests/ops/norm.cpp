// Norms and the gate of Mamba-2 against their twins in double; gradients against finite differences
// of the twins; strided views, odd sizes, both dtypes.
#include "tests/ops/case.h"

#include "tests/reference/norm.h"

using namespace ft;
using namespace ft::test;

TEST_CASE("rms_norm and its gradient", "[norm]") {
  FT_ON_EACH_BACKEND;
  for (Dtype dtype : kBoth)
    for (auto [T, C] : {std::array<int64_t, 2>{1, 1}, {3, 7}, {67, 5}, {2, 64}, {9, 40}}) {
      INFO(name_of(dtype) << " " << T << " x " << C);
      const int64_t gap = gap_of(C);
      Buffer x(Dtype::F32, T, C, gap), w(Dtype::F32, C), y(dtype, T, C, gap), rstd(Dtype::F32, T);
      x.random(1, 0.7, 0.1), w.random(2, 0.2, 1);
      const float eps = 1e-3f;
      const ops::RmsNormInputs in{.x = *x, .w = *w};
      run(ops::RmsNorm{.in = in, .y = *y, .rstd = *rstd, .eps = eps});
      Vector inverse;
      const Vector xv = x.values(), wv = w.values();
      check_close("y", y, reference::rms_norm(xv, wv, eps, 1, &inverse), tolerance(dtype));
      check_close("rstd", rstd, inverse, kTight);

      Buffer dy(dtype, T, C, gap), bypass(Dtype::F32, T, C, gap), dx(Dtype::F32, T, C, gap),
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
  const int64_t gap = gap_of(C);
  Buffer x(dtype, T, C, gap), z(dtype, T, C, gap), w(Dtype::F32, C), y(dtype, T, C, gap),
      rstd(Dtype::F32, T, groups);
  Buffer dy(dtype, T, C, gap), dx(dtype, T, C, gap), dz(dtype, T, C, gap), dw(Dtype::F32, C);
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
      check_gated(dtype, 9, 48, 2, form);
    }
}
