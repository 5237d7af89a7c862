// SwiGLU: one pass over memory.
//   dup = dy silu(a),  dgate = dy up silu'(a) gate_scale,  a = gate_scale gate
#include "core/ops.h"
#include "cuda/common/vector.h"

namespace ft::cuda {

namespace {

// ---- kernels ------------------------------------------------------------------------------------

template <class E>
struct SwiGluPack {
  Rows<E> y;
  Rows<const E> gate, up;
  float scale;
  template <int N>
  __device__ void at(int64_t row, int64_t col) const {
    float g[N], u[N];
    load(gate[row] + col, g);
    load(up[row] + col, u);
#pragma unroll
    for (int i = 0; i < N; ++i) u[i] *= silu<E>(scale * g[i]);
    store(y[row] + col, u);
  }
};

template <class E>
struct SwiGluGradPack {
  Rows<E> dgate, dup;
  Rows<const E> gate, up, dy;
  float scale;
  template <int N>
  __device__ void at(int64_t row, int64_t col) const {
    float g[N], u[N], d[N];
    load(gate[row] + col, g);
    load(up[row] + col, u);
    load(dy[row] + col, d);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const float a = scale * g[i], s = sigmoid<E>(a);
      g[i] = d[i] * u[i] * silu_slope(a, s) * scale;
      u[i] = d[i] * (a * s);
    }
    store(dgate[row] + col, g);
    store(dup[row] + col, u);
  }
};

}  // namespace

// ---- launchers ----------------------------------------------------------------------------------

template <>
void need(const ops::SwiGlu&, WorkspaceNeed&) {}

template <>
void run(const ops::SwiGlu& op, Stream stream) {
  with_float(op.y.dtype, [&](auto type) {
    using E = decltype(type);
    launch_packs("swiglu", extent_of({op.y, op.in.gate, op.in.up}),
                 are_aligned({op.y, op.in.gate, op.in.up}), stream,
                 SwiGluPack<E>{rows_of<E>(op.y), rows_of<const E>(op.in.gate),
                               rows_of<const E>(op.in.up), op.in.gate_scale});
  });
}

template <>
void need(const ops::SwiGluGrad&, WorkspaceNeed&) {}

template <>
void run(const ops::SwiGluGrad& op, Stream stream) {
  with_float(op.dy.dtype, [&](auto type) {
    using E = decltype(type);
    launch_packs(
        "swiglu_grad", extent_of({op.dy, op.in.gate, op.in.up, op.dgate, op.dup}),
        are_aligned({op.dy, op.in.gate, op.in.up, op.dgate, op.dup}), stream,
        SwiGluGradPack<E>{rows_of<E>(op.dgate), rows_of<E>(op.dup), rows_of<const E>(op.in.gate),
                          rows_of<const E>(op.in.up), rows_of<const E>(op.dy), op.in.gate_scale});
  });
}

}  // namespace ft::cuda
