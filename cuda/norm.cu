// RMSNorm (Zhang and Sennrich 2019): statistics in fp32, a block for a row.
#include "core/ops.h"
#include "cuda/common/vector.h"

namespace ft::cuda {

namespace {

// ---- kernels ------------------------------------------------------------------------------------

template <class X, class Y>
struct ForwardArgs {
  Rows<const X> x;
  const float* w;
  Rows<Y> y;
  float* rstd;
  int64_t columns;
  float eps;
};

template <int kPack, int kThreads, class X, class Y>
__global__ void __launch_bounds__(kThreads) normalize(ForwardArgs<X, Y> a) {
  const int64_t t = blockIdx.x;
  const X* from = a.x[t];
  Y* to = a.y[t];
  float sum = 0;
  each_pack<kPack, kThreads>(a.columns, [&](int64_t c, auto n) {
    float x[n];
    load(from + c, x);
#pragma unroll
    for (int i = 0; i < n; ++i) sum += x[i] * x[i];
  });
  sum = block_sum<kThreads>(sum);
  const float r = 1.0f / sqrtf(sum / static_cast<float>(a.columns) + a.eps);
  if (threadIdx.x == 0) a.rstd[t] = r;
  each_pack<kPack, kThreads>(a.columns, [&](int64_t c, auto n) {
    float x[n], w[n];
    load(from + c, x), load(a.w + c, w);
#pragma unroll
    for (int i = 0; i < n; ++i) x[i] = w[i] * (x[i] * r);
    store(to + c, x);
  });
}

template <class X, class Y>
struct BackwardArgs {
  Rows<const X> x;
  const float *w, *rstd;
  Rows<const Y> dy;
  Rows<const X> dresidual;  // null: none; may be dx
  Rows<X> dx;
  float* partial;  // [blocks, columns]
  int64_t rows, rows_each, columns;
};

// A block owns rows_each rows; a thread has the same columns of each, whose dw it sums.
template <int kPack, int kThreads, class X, class Y>
__global__ void __launch_bounds__(kThreads) norm_gradient(BackwardArgs<X, Y> a) {
  extern __shared__ __align__(16) float shared[];
  float* partial = a.partial + blockIdx.x * a.columns;
  float* dw = a.columns <= kSharedSums ? shared : partial;
  each_pack<1, kThreads>(a.columns, [&](int64_t c, auto) { dw[c] = 0; });
  __syncthreads();
  const int64_t begin = blockIdx.x * a.rows_each, end = min(begin + a.rows_each, a.rows);
  for (int64_t t = begin; t < end; ++t) {
    const X *from = a.x[t], *bypass = a.dresidual.data ? a.dresidual[t] : nullptr;
    const Y* grads = a.dy[t];
    X* to = a.dx[t];
    float dot = 0;
    each_pack<kPack, kThreads>(a.columns, [&](int64_t c, auto n) {
      float x[n], g[n], w[n];
      load(from + c, x), load(grads + c, g), load(a.w + c, w);
#pragma unroll
      for (int i = 0; i < n; ++i) dot += g[i] * w[i] * x[i];
    });
    dot = block_sum<kThreads>(dot);
    const float r = a.rstd[t], k = r * r * dot / static_cast<float>(a.columns);
    each_pack<kPack, kThreads>(a.columns, [&](int64_t c, auto n) {
      float x[n], g[n], w[n], sum[n];
      load(from + c, x), load(grads + c, g), load(a.w + c, w), load(dw + c, sum);
#pragma unroll
      for (int i = 0; i < n; ++i) {
        sum[i] += g[i] * x[i] * r;
        g[i] = r * (g[i] * w[i] - x[i] * k);
      }
      store(dw + c, sum);
      if (bypass) {
        load(bypass + c, x);
#pragma unroll
        for (int i = 0; i < n; ++i) g[i] += x[i];
      }
      store(to + c, g);
    });
  }
  if (dw == partial) return;
  __syncthreads();
  each_pack<1, kThreads>(a.columns, [&](int64_t c, auto) { partial[c] = dw[c]; });
}

// ---- launchers ----------------------------------------------------------------------------------

template <class X, class Y>
void forward(const ops::RmsNorm& op, Stream stream) {
  const ForwardArgs<X, Y> args{rows_of<const X>(op.in.x),
                               ptr<const float>(op.in.w),
                               rows_of<Y>(op.y),
                               ptr<float>(op.rstd),
                               op.in.x.cols(),
                               op.eps};
  const bool packs = aligned(op.in.x) && aligned(op.in.w) && aligned(op.y);
  const auto blocks = static_cast<unsigned>(op.in.x.rows());
  with_row_shape(args.columns, packs, [&](auto pack, auto threads) {
    constexpr int kPack = pack, kThreads = threads;
    normalize<kPack, kThreads><<<blocks, kThreads, 0, stream_of(stream)>>>(args);
    launched("rms_norm");
  });
}

int64_t partial_rows(const ops::RmsNormGrad& op) {
  return blocks_of(op.in.x.rows(), rows_per_block(op.in.x.rows()));
}

template <class X, class Y>
void backward(const ops::RmsNormGrad& op, float* partial, Stream stream) {
  const int64_t T = op.in.x.rows(), C = op.in.x.cols();
  const BackwardArgs<X, Y> args{
      rows_of<const X>(op.in.x),
      ptr<const float>(op.in.w),
      ptr<const float>(op.rstd),
      rows_of<const Y>(op.dy),
      op.dresidual ? rows_of<const X>(*op.dresidual) : Rows<const X>{nullptr, 0},
      rows_of<X>(op.dx),
      partial,
      T,
      rows_per_block(T),
      C};
  const bool packs = aligned(op.in.x) && aligned(op.in.w) && aligned(op.dy) && aligned(op.dx) &&
                     (!op.dresidual || aligned(*op.dresidual)) && C % 4 == 0;
  const auto blocks = static_cast<unsigned>(partial_rows(op));
  with_row_shape(C, packs, [&](auto pack, auto threads) {
    constexpr int kPack = pack, kThreads = threads;
    norm_gradient<kPack, kThreads><<<blocks, kThreads, shared_sums(C), stream_of(stream)>>>(args);
    launched("rms_norm_grad");
  });
}

}  // namespace

template <>
void need(const ops::RmsNorm&, WorkspaceNeed&) {}

template <>
void run(const ops::RmsNorm& op, Stream stream) {
  if (op.in.x.rows() == 0 || op.in.x.cols() == 0) return;
  with_float(op.in.x.dtype, [&](auto x) {
    with_float(op.y.dtype, [&](auto y) { forward<decltype(x), decltype(y)>(op, stream); });
  });
}

template <>
void need(const ops::RmsNormGrad& op, WorkspaceNeed& n) {
  need_workspace(n, 0, partial_rows(op) * op.in.x.cols() * static_cast<int64_t>(sizeof(float)));
}

template <>
void run(const ops::RmsNormGrad& op, Stream stream) {
  const int64_t C = op.in.x.cols(), rows = partial_rows(op);
  float* partial = workspace<float>(stream, 0, rows * C);
  if (rows > 0 && C > 0)
    with_float(op.in.x.dtype, [&](auto x) {
      with_float(op.dy.dtype,
                 [&](auto dy) { backward<decltype(x), decltype(dy)>(op, partial, stream); });
    });
  fold(partial, rows, C, PutGradient{ptr<float>(op.dw), op.grad == Grad::Accumulate}, stream);
}

}  // namespace ft::cuda
