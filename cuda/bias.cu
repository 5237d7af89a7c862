// Biases of linears, and their gradients: sums of columns.
#include "core/ops.h"
#include "cuda/common/elementwise.h"

namespace ft::cuda {

namespace {

// ---- kernels ------------------------------------------------------------------------------------

template <class E>
struct AddBiasEach {
  Rows<E> y;
  const float* bias;
  float scale;
  template <int N>
  __device__ void at(int64_t r, int64_t c) const {
    float a[N];
    load<N>(y[r] + c, a);
#pragma unroll
    for (int i = 0; i < N; ++i) a[i] += scale * bias[c + i];
    store<N>(y[r] + c, a);
  }
};

// A block adds up kColumns columns over kRows rows: kRows / kLanes by each of kLanes threads, then
// these in order.
constexpr int kColumns = 32, kLanes = 8, kRows = 512;

template <class E>
__global__ void __launch_bounds__(kColumns* kLanes)
    column_sums(Rows<const E> dy, int64_t T, int64_t C, double* partial) {
  __shared__ double sums[kLanes][kColumns];
  const int64_t c = int64_t{blockIdx.x} * kColumns + threadIdx.x;
  const int64_t begin = int64_t{blockIdx.y} * kRows, end = min(T, begin + kRows);
  double sum = 0;
  if (c < C)
    for (int64_t t = begin + threadIdx.y; t < end; t += kLanes)
      sum += static_cast<double>(to_float(dy[t][c]));
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || c >= C) return;
  for (int lane = 1; lane < kLanes; ++lane) sum += sums[lane][threadIdx.x];
  partial[int64_t{blockIdx.y} * C + c] = sum;
}

__global__ void fold_sums(const double* partial, int64_t blocks, int64_t C, float scale,
                          bool accumulate, float* out) {
  const int64_t c = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (c >= C) return;
  double sum = 0;
  for (int64_t b = 0; b < blocks; ++b) sum += partial[b * C + c];
  const auto value = static_cast<float>(scale * sum);
  out[c] = accumulate ? out[c] + value : value;
}

// ---- launchers ----------------------------------------------------------------------------------

constexpr int kFoldThreads = 128;

int64_t partials_of(const ops::AddBiasGrad& op) {
  return std::max<int64_t>(1, blocks_of(op.dy.rows(), int64_t{kRows}) * op.dy.cols());
}

}  // namespace

template <>
void need(const ops::AddBias&, WorkspaceNeed&) {}

template <>
void run(const ops::AddBias& op, Stream stream) {
  const int64_t T = op.y.rows(), C = op.y.cols();
  with_float(op.y.dtype, [&](auto element) {
    using E = decltype(element);
    for_each("add_bias", AddBiasEach<E>{rows_of<E>(op.y), ptr<const float>(op.bias), op.scale}, T,
             C, allow_wide(C, op.y), stream);
  });
}

template <>
void need(const ops::AddBiasGrad& op, WorkspaceNeed& n) {
  need_workspace(n, 0, partials_of(op) * static_cast<int64_t>(sizeof(double)));
}

template <>
void run(const ops::AddBiasGrad& op, Stream stream) {
  const int64_t T = op.dy.rows(), C = op.dy.cols(), blocks = blocks_of(T, int64_t{kRows});
  if (C == 0) return;
  auto* partial = workspace<double>(stream, 0, partials_of(op));
  if (blocks > 0)
    with_float(op.dy.dtype, [&](auto element) {
      using E = decltype(element);
      const dim3 grid(static_cast<unsigned>(blocks_of(C, int64_t{kColumns})),
                      static_cast<unsigned>(blocks));
      column_sums<<<grid, dim3(kColumns, kLanes), 0, stream_of(stream)>>>(rows_of<const E>(op.dy),
                                                                          T, C, partial);
      launched("column_sums");
    });
  fold_sums<<<static_cast<unsigned>(blocks_of(C, int64_t{kFoldThreads})), kFoldThreads, 0,
              stream_of(stream)>>>(partial, blocks, C, op.scale, op.grad == Grad::Accumulate,
                                   ptr<float>(op.dbias));
  launched("fold_sums");
}

}  // namespace ft::cuda
