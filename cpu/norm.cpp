// RMSNorm (Zhang and Sennrich 2019): statistics in fp32.
#include "cpu/common.h"

namespace ft::cpu {

template <>
void run(const ops::RmsNorm& op, Stream) {
  const int64_t T = op.x.rows(), C = op.x.cols();
  const float* w = op.w.f32();
  float* rstd = op.rstd.f32();
#pragma omp parallel for schedule(static)
  for (int64_t t = 0; t < T; ++t) {
    float* x = workspace_f32(kRowA, C);
    load(op.x, t, C, x);
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < C; ++i) sum += x[i] * x[i];
    const float r = 1.0f / std::sqrt(sum / static_cast<float>(C) + op.eps);
    rstd[t] = r;
    for (int64_t i = 0; i < C; ++i) x[i] = w[i] * (x[i] * r);
    store(op.y, t, C, x);
  }
}

template <>
void run(const ops::RmsNormGrad& op, Stream) {
  const int64_t T = op.x.rows(), C = op.x.cols(), blocks = blocks_of(T, kReduceBlock);
  const float *w = op.w.f32(), *rstd = op.rstd.f32();
  float* partial = workspace_f32(kPartials, blocks * C);
#pragma omp parallel for schedule(static)
  for (int64_t block = 0; block < blocks; ++block) {
    float *x = workspace_f32(kRowA, C), *g = workspace_f32(kRowB, C), *dw = partial + block * C;
    std::fill_n(dw, C, 0.0f);
    for (int64_t t = block * kReduceBlock; t < std::min(T, (block + 1) * kReduceBlock); ++t) {
      load(op.x, t, C, x);
      load(op.dy, t, C, g);
      const float r = rstd[t];
      float dot = 0;
#pragma omp simd reduction(+ : dot)
      for (int64_t i = 0; i < C; ++i) {
        dw[i] += g[i] * x[i] * r;
        g[i] *= w[i];
        dot += g[i] * x[i];
      }
      const float k = r * r * dot / static_cast<float>(C);
      for (int64_t i = 0; i < C; ++i) g[i] = r * (g[i] - x[i] * k);
      if (op.dresidual) {
        load(*op.dresidual, t, C, x);
        for (int64_t i = 0; i < C; ++i) g[i] += x[i];
      }
      store(op.dx, t, C, g);
    }
  }
  fold(partial, blocks, C, op.grad, 1, op.dw.f32());
}

}  // namespace ft::cpu
