// RMSNorm (Zhang and Sennrich 2019): statistics in fp32.
#include "cpu/common.h"

namespace ft::cpu {

namespace {

FT_VECTOR float sum_squares(const float* x, int64_t n) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) sum += x[i] * x[i];
  return sum;
}

FT_VECTOR void scale_row(float* x, const float* w, int64_t n, float r) {
  for (int64_t i = 0; i < n; ++i) x[i] = w[i] * (x[i] * r);
}

// dw += g x r, then g becomes the gradient of x: with g w for g, r (g - x r^2 mean(g x)).
FT_VECTOR void row_gradient(float* g, const float* x, const float* w, float* dw, int64_t n,
                            float r) {
  float dot = 0;
#pragma omp simd reduction(+ : dot)
  for (int64_t i = 0; i < n; ++i) {
    dw[i] += g[i] * x[i] * r;
    g[i] *= w[i];
    dot += g[i] * x[i];
  }
  const float k = r * r * dot / static_cast<float>(n);
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) g[i] = r * (g[i] - x[i] * k);
}

FT_VECTOR void add_row(float* y, const float* x, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] += x[i];
}

}  // namespace

template <>
void need(const ops::RmsNorm& op, WorkspaceNeed& n) {
  each_f32(n, {kRowA}, op.in.x.cols());
}

template <>
void run(const ops::RmsNorm& op, Stream) {
  const int64_t T = op.in.x.rows(), C = op.in.x.cols();
  const float* w = op.in.w.f32();
  float* rstd = op.rstd.f32();
  parallel_for(T, [&](int64_t t) {
    float* x = workspace_f32(kRowA, C);
    load(op.in.x, t, C, x);
    const float r = 1.0f / std::sqrt(sum_squares(x, C) / static_cast<float>(C) + op.eps);
    rstd[t] = r;
    scale_row(x, w, C, r);
    store(op.y, t, C, x);
  });
}

template <>
void need(const ops::RmsNormGrad& op, WorkspaceNeed& n) {
  main_f32(n, kPartials, blocks_of(op.in.x.rows(), kReduceBlock) * op.in.x.cols());
  each_f32(n, {kRowA, kRowB}, op.in.x.cols());
}

template <>
void run(const ops::RmsNormGrad& op, Stream) {
  const int64_t T = op.in.x.rows(), C = op.in.x.cols(), blocks = blocks_of(T, kReduceBlock);
  const float *w = op.in.w.f32(), *rstd = op.rstd.f32();
  float* partial = workspace_f32(kPartials, blocks * C);
  for_blocks(T, [&](int64_t block, int64_t begin, int64_t end) {
    float *x = workspace_f32(kRowA, C), *g = workspace_f32(kRowB, C), *dw = partial + block * C;
    std::fill_n(dw, C, 0.0f);
    for (int64_t t = begin; t < end; ++t) {
      load(op.in.x, t, C, x);
      load(op.dy, t, C, g);
      row_gradient(g, x, w, dw, C, rstd[t]);
      if (op.dresidual) {
        load(*op.dresidual, t, C, x);
        add_row(g, x, C);
      }
      store(op.dx, t, C, g);
    }
  });
  fold(partial, blocks, C, op.grad, 1, op.dw.f32());
}

}  // namespace ft::cpu
