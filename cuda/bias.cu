// Biases: added to every token, and their gradient.
#include "core/ops.h"
#include "cuda/common/fold.h"
#include "cuda/common/vector.h"

namespace ft::cuda {

namespace {

constexpr int64_t kTokens = 64;  // of a partial sum
constexpr int kThreads = 128;

// ---- kernels ------------------------------------------------------------------------------------

template <class E>
struct AddBiasPack {
  Rows<E> y;
  const float* bias;
  float scale;
  template <int N>
  __device__ void at(int64_t row, int64_t col) const {
    float v[N], b[N];
    load(y[row] + col, v);
    load(bias + col, b);
#pragma unroll
    for (int i = 0; i < N; ++i) v[i] += scale * b[i];
    store(y[row] + col, v);
  }
};

// partial[block][c] = sum over the block's tokens of dy[t][c]; N divides C.
template <int N, class E>
__global__ void sum_tokens(Rows<const E> dy, int64_t T, int64_t C, float* partial) {
  const int64_t c = (static_cast<int64_t>(blockIdx.y) * kThreads + threadIdx.x) * N;
  if (c >= C) return;
  const int64_t begin = blockIdx.x * kTokens, end = min(T, begin + kTokens);
  float sum[N] = {};
#pragma unroll 4
  for (int64_t t = begin; t < end; ++t) {
    float v[N];
    load(dy[t] + c, v);
#pragma unroll
    for (int i = 0; i < N; ++i) sum[i] += v[i];
  }
#pragma unroll
  for (int i = 0; i < N; ++i) partial[blockIdx.x * C + c + i] = sum[i];
}

}  // namespace

// ---- launchers ----------------------------------------------------------------------------------

template <>
void need(const ops::AddBias&, WorkspaceNeed&) {}

template <>
void run(const ops::AddBias& op, Stream stream) {
  with_float(op.y.dtype, [&](auto type) {
    using E = decltype(type);
    launch_packs("add_bias", {op.y.rows(), op.y.cols()}, are_aligned({op.y, op.bias}), stream,
                 AddBiasPack<E>{rows_of<E>(op.y), ptr<const float>(op.bias), op.scale});
  });
}

template <>
void need(const ops::AddBiasGrad& op, WorkspaceNeed& n) {
  need_workspace(
      n, 0, blocks_of(op.dy.rows(), kTokens) * op.dy.cols() * static_cast<int64_t>(sizeof(float)));
}

template <>
void run(const ops::AddBiasGrad& op, Stream stream) {
  const int64_t T = op.dy.rows(), C = op.dy.cols(), blocks = blocks_of(T, kTokens);
  float* partial = workspace<float>(stream, 0, blocks * C);
  with_float(op.dy.dtype, [&](auto type) {
    using E = decltype(type);
    with_pack(is_aligned(op.dy) && C % kPack == 0, [&](auto pack) {
      constexpr int N = decltype(pack)::value;
      if (blocks == 0 || C == 0) return;
      const dim3 grid(static_cast<unsigned>(blocks),
                      static_cast<unsigned>(blocks_of<int64_t>(C / N, kThreads)));
      sum_tokens<N>
          <<<grid, kThreads, 0, stream_of(stream)>>>(rows_of<const E>(op.dy), T, C, partial);
    });
  });
  launched("sum_tokens");
  launch_fold(partial, blocks, C, stream,
              FoldInto{ptr<float>(op.dbias), op.scale, op.grad == Grad::Accumulate});
}

}  // namespace ft::cuda
