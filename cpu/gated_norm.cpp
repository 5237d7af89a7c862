// The gate of Mamba-2 with its optional grouped RMSNorm; formulas in core/ops.h.
#include "cpu/common.h"

namespace ft::cpu {

namespace {

float inverse_rms(const float* x, int64_t n, float eps) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) sum += x[i] * x[i];
  return 1.0f / std::sqrt(sum / static_cast<float>(n) + eps);
}

// g = dy w for y = w x r:  x becomes the gradient of x, r (g - x r^2 mean(g x)).
void norm_gradient(float* x, const float* g, int64_t n, float r) {
  float dot = 0;
#pragma omp simd reduction(+ : dot)
  for (int64_t i = 0; i < n; ++i) dot += g[i] * x[i];
  const float k = r * r * dot / static_cast<float>(n);
  for (int64_t i = 0; i < n; ++i) x[i] = r * (g[i] - x[i] * k);
}

}  // namespace

template <>
void run(const ops::GatedNorm& op, Stream) {
  const int64_t T = op.x.rows(), C = op.x.cols(), n = C / op.groups;
  const float* w = op.w ? op.w->f32() : nullptr;
  float* rstd = op.w ? op.rstd->f32() : nullptr;
#pragma omp parallel for schedule(static)
  for (int64_t t = 0; t < T; ++t) {
    float *x = workspace_f32(kRowA, C), *gate = workspace_f32(kRowB, C);
    load(op.x, t, C, x);
    load(op.z, t, C, gate);
#pragma omp simd
    for (int64_t i = 0; i < C; ++i) gate[i] = silu(op.z_scale * gate[i]);
    if (!w || !op.norm_before_gate)
      for (int64_t i = 0; i < C; ++i) x[i] *= gate[i];
    for (int64_t g = 0; w && g < op.groups; ++g) {
      const float r = inverse_rms(x + g * n, n, op.eps);
      rstd[t * op.groups + g] = r;
      for (int64_t i = g * n; i < (g + 1) * n; ++i) x[i] *= r * w[i];
    }
    if (w && op.norm_before_gate)
      for (int64_t i = 0; i < C; ++i) x[i] *= gate[i];
    for (int64_t i = 0; i < C; ++i) x[i] *= op.out_scale;
    store(op.y, t, C, x);
  }
}

template <>
void run(const ops::GatedNormGrad& op, Stream) {
  const int64_t T = op.x.rows(), C = op.x.cols(), n = C / op.groups, blocks = blocks_of(T, kReduceBlock);
  const float* w = op.w ? op.w->f32() : nullptr;
  const float* rstd = w ? op.rstd->f32() : nullptr;
  float* partial = w ? workspace_f32(kPartials, blocks * C) : nullptr;
#pragma omp parallel for schedule(static)
  for (int64_t block = 0; block < blocks; ++block) {
    float *x = workspace_f32(kRowA, C), *z = workspace_f32(kRowB, C), *dy = workspace_f32(kRowC, C);
    float* s = workspace_f32(kRowD, 2 * C);   // the norm's input, then its gradient; and the incoming gradient of it
    float *g = s + C, *dw = partial + block * C;
    if (w) std::fill_n(dw, C, 0.0f);
    for (int64_t t = block * kReduceBlock; t < std::min(T, (block + 1) * kReduceBlock); ++t) {
      load(op.x, t, C, x);
      load(op.z, t, C, z);
      load(op.dy, t, C, dy);
      for (int64_t i = 0; i < C; ++i) z[i] *= op.z_scale, dy[i] *= op.out_scale;
      if (!w) {
        for (int64_t i = 0; i < C; ++i) s[i] = dy[i];
      } else {
        const bool before = op.norm_before_gate;
        for (int64_t i = 0; i < C; ++i) {
          const float gate = silu(z[i]);
          s[i] = before ? x[i] : x[i] * gate;
          g[i] = before ? dy[i] * gate : dy[i];
        }
        for (int64_t k = 0; k < op.groups; ++k) {
          const float r = rstd[t * op.groups + k];
          for (int64_t i = k * n; i < (k + 1) * n; ++i) {
            dw[i] += g[i] * s[i] * r;
            if (before) dy[i] *= w[i] * s[i] * r;   // gradient of the gate
            g[i] *= w[i];
          }
          norm_gradient(s + k * n, g + k * n, n, r);
        }
      }
      if (w && op.norm_before_gate) {
        for (int64_t i = 0; i < C; ++i) z[i] = dy[i] * silu_slope(z[i]) * op.z_scale;
        store(op.dx, t, C, s);
      } else {   // s is the gradient of x * gate
        for (int64_t i = 0; i < C; ++i) {
          const float dx = s[i] * silu(z[i]);
          z[i] = s[i] * x[i] * silu_slope(z[i]) * op.z_scale;
          x[i] = dx;
        }
        store(op.dx, t, C, x);
      }
      store(op.dz, t, C, z);
    }
  }
  if (w) fold(partial, blocks, C, op.grad, 1, op.dw->f32());
}

}  // namespace ft::cpu
