// SwiGLU, biases, copies: one pass over memory each.
#include "cpu/common.h"

namespace ft::cpu {

template <>
void run(const ops::SwiGlu& op, Stream) {
  const int64_t T = op.y.rows(), C = op.y.cols();
#pragma omp parallel for schedule(static)
  for (int64_t t = 0; t < T; ++t) {
    float *g = workspace_f32(kRowA, C), *u = workspace_f32(kRowB, C);
    load(op.gate, t, C, g);
    load(op.up, t, C, u);
#pragma omp simd
    for (int64_t i = 0; i < C; ++i) u[i] *= silu(op.gate_scale * g[i]);
    store(op.y, t, C, u);
  }
}

template <>
void run(const ops::SwiGluGrad& op, Stream) {
  const int64_t T = op.dy.rows(), C = op.dy.cols();
#pragma omp parallel for schedule(static)
  for (int64_t t = 0; t < T; ++t) {
    float *g = workspace_f32(kRowA, C), *u = workspace_f32(kRowB, C), *dy = workspace_f32(kRowC, C);
    load(op.gate, t, C, g);
    load(op.up, t, C, u);
    load(op.dy, t, C, dy);
#pragma omp simd
    for (int64_t i = 0; i < C; ++i) {
      const float s = op.gate_scale * g[i];
      const float dup = dy[i] * silu(s);
      g[i] = dy[i] * u[i] * silu_slope(s) * op.gate_scale;
      u[i] = dup;
    }
    store(op.dgate, t, C, g);
    store(op.dup, t, C, u);
  }
}

template <>
void run(const ops::AddBias& op, Stream) {
  const int64_t T = op.y.rows(), C = op.y.cols();
  const float* bias = op.bias.f32();
#pragma omp parallel for schedule(static)
  for (int64_t t = 0; t < T; ++t) {
    float* y = workspace_f32(kRowA, C);
    load(op.y, t, C, y);
    for (int64_t i = 0; i < C; ++i) y[i] += op.scale * bias[i];
    store(op.y, t, C, y);
  }
}

template <>
void run(const ops::AddBiasGrad& op, Stream) {
  const int64_t T = op.dy.rows(), C = op.dy.cols(), blocks = blocks_of(T, kReduceBlock);
  float* partial = workspace_f32(kPartials, blocks * C);
#pragma omp parallel for schedule(static)
  for (int64_t block = 0; block < blocks; ++block) {
    float *dy = workspace_f32(kRowA, C), *sum = partial + block * C;
    std::fill_n(sum, C, 0.0f);
    for (int64_t t = block * kReduceBlock; t < std::min(T, (block + 1) * kReduceBlock); ++t) {
      load(op.dy, t, C, dy);
      for (int64_t i = 0; i < C; ++i) sum[i] += dy[i];
    }
  }
  fold(partial, blocks, C, op.grad, op.scale, op.dbias.f32());
}

namespace {

// Tensors of one dim are one row, so that threads share rows of either form.
Tensor as_rows(const Tensor& t) { return t.dims == 2 ? t : t.view({1, t.size()}); }

template <class To, class From>
void copy_rows(const Tensor& y, const Tensor& x, double scale) {
  const int64_t C = y.cols();
#pragma omp parallel for schedule(static)
  for (int64_t t = 0; t < y.rows(); ++t) {
    To* to = row<To>(y, t);
    const From* from = row<From>(x, t);
    for (int64_t i = 0; i < C; ++i)
      to[i] = static_cast<To>(static_cast<float>(static_cast<double>(static_cast<float>(from[i])) * scale));
  }
}

}  // namespace

template <>
void run(const ops::Copy& op, Stream) {
  const Tensor y = as_rows(op.y), x = as_rows(op.x);
  FT_CHECK(y.rows() == x.rows() && y.cols() == x.cols(), "copy of [{}, {}] into [{}, {}]", x.rows(), x.cols(),
           y.rows(), y.cols());
  with_type(y.dtype, [&](auto to) {
    with_type(x.dtype, [&](auto from) { copy_rows<decltype(to), decltype(from)>(y, x, op.scale); });
  });
}

template <>
void run(const ops::Add& op, Stream) {
  const Tensor y = as_rows(op.y), x = as_rows(op.x);
  const int64_t C = y.cols();
#pragma omp parallel for schedule(static)
  for (int64_t t = 0; t < y.rows(); ++t) {
    float *a = workspace_f32(kRowA, C), *b = workspace_f32(kRowB, C);
    load(y, t, C, a);
    load(x, t, C, b);
    for (int64_t i = 0; i < C; ++i) a[i] += b[i];
    store(y, t, C, a);
  }
}

template <>
void run(const ops::Fill& op, Stream) {
  const Tensor y = as_rows(op.y);
  for (int64_t t = 0; t < y.rows(); ++t) {
    switch (y.dtype) {
      case Dtype::F32: std::fill_n(row<float>(y, t), y.cols(), static_cast<float>(op.value)); break;
      case Dtype::BF16: std::fill_n(row<bf16>(y, t), y.cols(), bf16(static_cast<float>(op.value))); break;
      case Dtype::F64: std::fill_n(row<double>(y, t), y.cols(), op.value); break;
      case Dtype::I32: std::fill_n(row<int32_t>(y, t), y.cols(), static_cast<int32_t>(op.value)); break;
      default: throw Error(fmt::format("fill does not take {}", name_of(y.dtype)));
    }
  }
}

}  // namespace ft::cpu
