// SwiGLU: one pass over memory.
#include "core/ops.h"
#include "cuda/common/elementwise.h"

namespace ft::cuda {

namespace {

// ---- kernels ------------------------------------------------------------------------------------

__device__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

template <class E>
struct SwiGluEach {
  Rows<const E> gate, up;
  Rows<E> y;
  float scale;
  template <int N>
  __device__ void at(int64_t r, int64_t c) const {
    float g[N], u[N];
    load<N>(gate[r] + c, g), load<N>(up[r] + c, u);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const float x = scale * g[i];
      u[i] *= x * sigmoid(x);
    }
    store<N>(y[r] + c, u);
  }
};

template <class E>
struct SwiGluGradEach {
  Rows<const E> gate, up, dy;
  Rows<E> dgate, dup;
  float scale;
  template <int N>
  __device__ void at(int64_t r, int64_t c) const {
    float g[N], u[N], d[N];
    load<N>(gate[r] + c, g), load<N>(up[r] + c, u), load<N>(dy[r] + c, d);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const float x = scale * g[i], s = sigmoid(x);
      g[i] = d[i] * u[i] * (s * (1.0f + x * (1.0f - s))) * scale;
      u[i] = d[i] * (x * s);
    }
    store<N>(dgate[r] + c, g), store<N>(dup[r] + c, u);
  }
};

}  // namespace

// ---- launchers ----------------------------------------------------------------------------------

template <>
void need(const ops::SwiGlu&, WorkspaceNeed&) {}

template <>
void run(const ops::SwiGlu& op, Stream stream) {
  const auto [rows, cols] = shape_of(op.y, op.in.gate, op.in.up);
  with_float(op.y.dtype, [&](auto element) {
    using E = decltype(element);
    const SwiGluEach<E> each{rows_of<const E>(op.in.gate), rows_of<const E>(op.in.up),
                             rows_of<E>(op.y), op.in.gate_scale};
    for_each("swiglu", each, rows, cols, allow_wide(cols, op.in.gate, op.in.up, op.y), stream);
  });
}

template <>
void need(const ops::SwiGluGrad&, WorkspaceNeed&) {}

template <>
void run(const ops::SwiGluGrad& op, Stream stream) {
  const auto [rows, cols] = shape_of(op.dy, op.in.gate, op.in.up, op.dgate, op.dup);
  const bool wide = allow_wide(cols, op.in.gate, op.in.up, op.dy, op.dgate, op.dup);
  with_float(op.dy.dtype, [&](auto element) {
    using E = decltype(element);
    const SwiGluGradEach<E> each{rows_of<const E>(op.in.gate), rows_of<const E>(op.in.up),
                                 rows_of<const E>(op.dy),      rows_of<E>(op.dgate),
                                 rows_of<E>(op.dup),           op.in.gate_scale};
    for_each("swiglu_grad", each, rows, cols, wide, stream);
  });
}

}  // namespace ft::cuda
