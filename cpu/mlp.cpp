// SwiGLU: one pass over memory.
#include "cpu/common.h"

namespace ft::cpu {

namespace {

// u becomes u silu(scale g).
FT_VECTOR void swiglu_row(const float* g, float* u, int64_t n, float scale) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) u[i] *= silu(scale * g[i]);
}

// g and u become their gradients.
FT_VECTOR void swiglu_gradient(float* g, float* u, const float* dy, int64_t n, float scale) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const float x = scale * g[i], s = sigmoid(x);
    g[i] = dy[i] * u[i] * (s * (1.0f + x * (1.0f - s))) * scale;
    u[i] = dy[i] * (x * s);
  }
}

}  // namespace

template <>
void need(const ops::SwiGlu& op, WorkspaceNeed& n) {
  each_f32(n, {kRowA, kRowB}, op.y.cols());
}

template <>
void run(const ops::SwiGlu& op, Stream) {
  const int64_t T = op.y.rows(), C = op.y.cols();
  parallel_for(T, [&](int64_t t) {
    float *g = workspace_f32(kRowA, C), *u = workspace_f32(kRowB, C);
    load(op.in.gate, t, C, g);
    load(op.in.up, t, C, u);
    swiglu_row(g, u, C, op.in.gate_scale);
    store(op.y, t, C, u);
  });
}

template <>
void need(const ops::SwiGluGrad& op, WorkspaceNeed& n) {
  each_f32(n, {kRowA, kRowB, kRowC}, op.dy.cols());
}

template <>
void run(const ops::SwiGluGrad& op, Stream) {
  const int64_t T = op.dy.rows(), C = op.dy.cols();
  parallel_for(T, [&](int64_t t) {
    float *g = workspace_f32(kRowA, C), *u = workspace_f32(kRowB, C), *dy = workspace_f32(kRowC, C);
    load(op.in.gate, t, C, g);
    load(op.in.up, t, C, u);
    load(op.dy, t, C, dy);
    swiglu_gradient(g, u, dy, C, op.in.gate_scale);
    store(op.dgate, t, C, g);
    store(op.dup, t, C, u);
  });
}

}  // namespace ft::cpu
