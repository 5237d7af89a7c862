// The gate of Mamba-2 with its optional grouped RMSNorm; formulas in core/ops.h.
#include "cpu/common.h"

namespace ft::cpu {

namespace {

FT_VECTOR float inverse_rms(const float* x, int64_t n, float eps) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) sum += x[i] * x[i];
  return 1.0f / std::sqrt(sum / static_cast<float>(n) + eps);
}

// g = dy w for y = w x r:  x becomes the gradient of x, r (g - x r^2 mean(g x)).
FT_VECTOR void norm_gradient(float* x, const float* g, int64_t n, float r) {
  float dot = 0;
#pragma omp simd reduction(+ : dot)
  for (int64_t i = 0; i < n; ++i) dot += g[i] * x[i];
  const float k = r * r * dot / static_cast<float>(n);
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) x[i] = r * (g[i] - x[i] * k);
}

FT_VECTOR void gate_row(float* z, int64_t n, float scale) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) z[i] = silu(scale * z[i]);
}

FT_VECTOR void multiply(float* y, const float* x, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] *= x[i];
}

FT_VECTOR void scale_row(float* y, int64_t n, float scale) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] *= scale;
}

FT_VECTOR void scale_norm(float* x, const float* w, int64_t n, float r) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) x[i] *= r * w[i];
}

// For y = x silu(a), a = z scale, with d the gradient of y: x becomes its gradient d silu(a), and a
// that of z.
FT_VECTOR void gate_gradient(float* x, float* a, const float* d, int64_t n, float scale) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const float s = sigmoid(a[i]), slope = s * (1.0f + a[i] * (1.0f - s));
    const float dx = d[i] * (a[i] * s);
    a[i] = d[i] * x[i] * slope * scale;
    x[i] = dx;
  }
}

// The norm's input s, and the gradient g of its output w norm(s).
FT_VECTOR void norm_input(float* s, float* g, const float* x, const float* a, const float* dy,
                          int64_t n, bool before) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const float gate = silu(a[i]);
    s[i] = before ? x[i] : x[i] * gate;
    g[i] = before ? dy[i] * gate : dy[i];
  }
}

// a becomes the gradient of z where dgate is that of silu(a).
FT_VECTOR void slope_row(float* a, const float* dgate, int64_t n, float scale) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) a[i] = dgate[i] * silu_slope(a[i]) * scale;
}

}  // namespace

template <>
void need(const ops::GatedNorm& op, WorkspaceNeed& n) {
  each_f32(n, {kRowA, kRowB}, op.in.x.cols());
}

template <>
void run(const ops::GatedNorm& op, Stream) {
  const int64_t T = op.in.x.rows(), C = op.in.x.cols(), n = C / op.in.groups;
  const float* w = op.in.w ? op.in.w->f32() : nullptr;
  float* rstd = op.in.w ? op.rstd->f32() : nullptr;
  parallel_for(T, [&](int64_t t) {
    float *x = workspace_f32(kRowA, C), *gate = workspace_f32(kRowB, C);
    load(op.in.x, t, C, x);
    load(op.in.z, t, C, gate);
    gate_row(gate, C, op.in.z_scale);
    if (!w || !op.in.norm_before_gate) multiply(x, gate, C);
    for (int64_t g = 0; w && g < op.in.groups; ++g) {
      const float r = inverse_rms(x + g * n, n, op.eps);
      rstd[t * op.in.groups + g] = r;
      scale_norm(x + g * n, w + g * n, n, r);
    }
    if (w && op.in.norm_before_gate) multiply(x, gate, C);
    scale_row(x, C, op.in.out_scale);
    store(op.y, t, C, x);
  });
}

template <>
void need(const ops::GatedNormGrad& op, WorkspaceNeed& n) {
  if (op.in.w) main_f32(n, kPartials, blocks_of(op.in.x.rows(), kReduceBlock) * op.in.x.cols());
  each_f32(n, {kRowA, kRowB, kRowC}, op.in.x.cols());
  each_f32(n, {kRowD}, 2 * op.in.x.cols());
}

template <>
void run(const ops::GatedNormGrad& op, Stream) {
  const int64_t T = op.in.x.rows(), C = op.in.x.cols(), n = C / op.in.groups,
                blocks = blocks_of(T, kReduceBlock);
  const float* w = op.in.w ? op.in.w->f32() : nullptr;
  const float* rstd = w ? op.rstd->f32() : nullptr;
  float* partial = workspace_f32(kPartials, w ? blocks * C : 0);
  for_blocks(T, [&](int64_t block, int64_t begin, int64_t end) {
    float *x = workspace_f32(kRowA, C), *z = workspace_f32(kRowB, C), *dy = workspace_f32(kRowC, C);
    float* s = workspace_f32(
        kRowD, 2 * C);  // the norm's input, then its gradient; and the incoming gradient of it
    float *g = s + C, *dw = w ? partial + block * C : nullptr;
    const bool before = op.in.norm_before_gate;
    if (w) std::fill_n(dw, C, 0.0f);
    for (int64_t t = begin; t < end; ++t) {
      load(op.in.x, t, C, x);
      load(op.in.z, t, C, z);
      load(op.dy, t, C, dy);
      scale_row(z, C, op.in.z_scale);
      scale_row(dy, C, op.in.out_scale);
      if (w) norm_input(s, g, x, z, dy, C, before);
      for (int64_t k = 0; w && k < op.in.groups; ++k) {
        const float r = rstd[t * op.in.groups + k];
        for (int64_t i = k * n; i < (k + 1) * n; ++i) {
          dw[i] += g[i] * s[i] * r;
          if (before) dy[i] *= w[i] * s[i] * r;  // gradient of the gate
          g[i] *= w[i];
        }
        norm_gradient(s + k * n, g + k * n, n, r);
      }
      if (w && before) slope_row(z, dy, C, op.in.z_scale);
      else gate_gradient(x, z, w ? s : dy, C, op.in.z_scale);
      store(op.dx, t, C, w && before ? s : x);
      store(op.dz, t, C, z);
    }
  });
  if (w) fold(partial, blocks, C, op.grad, 1, op.dw->f32());
}

}  // namespace ft::cpu
