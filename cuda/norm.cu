// RMSNorm (Zhang and Sennrich 2019): statistics in fp32, a block for each row. The second pass over
// a row finds it in the cache.
#include "core/ops.h"
#include "cuda/common/fold.h"
#include "cuda/common/norm.h"

namespace ft::cuda {

namespace {

// ---- kernels ------------------------------------------------------------------------------------

template <class X, class Y>
struct Forward {
  Rows<const X> x;
  const float* w;
  Rows<Y> y;
  float* rstd;
  int64_t C;
  float eps;
};

template <int N, int kThreads, class X, class Y>
__global__ void __launch_bounds__(kThreads) rms_norm(Forward<X, Y> op) {
  const X* x = op.x[blockIdx.x];
  Y* y = op.y[blockIdx.x];
  float sum = 0;
  for (int64_t c = threadIdx.x * N; c < op.C; c += kThreads * N) {
    float v[N];
    load(x + c, v);
#pragma unroll
    for (int i = 0; i < N; ++i) sum += v[i] * v[i];
  }
  sum = block_sum<kThreads>(sum);
  const float r = 1.0f / sqrtf(sum / static_cast<float>(op.C) + op.eps);
  if (threadIdx.x == 0) op.rstd[blockIdx.x] = r;
  for (int64_t c = threadIdx.x * N; c < op.C; c += kThreads * N) {
    float v[N], w[N];
    load(x + c, v);
    load(op.w + c, w);
#pragma unroll
    for (int i = 0; i < N; ++i) v[i] = w[i] * (v[i] * r);
    store(y + c, v);
  }
}

template <class X, class Y>
struct Backward {
  Rows<const X> x, dresidual;  // dresidual.data may be null
  const float *w, *rstd;
  Rows<const Y> dy;
  Rows<X> dx;
  float* partial;  // [blocks, C] of dw
  int64_t T, C;
  bool shared;  // dw's sums fit into shared memory
};

// Adds the row to dw; the sum over it of dy w x.
template <int N, int kThreads, class X, class Y>
__device__ float add_row(const Backward<X, Y>& op, int64_t t, float r, float* dw) {
  const int64_t packs = op.C / N;
  const X* x = op.x[t];
  const Y* dy = op.dy[t];
  float dot = 0;
  for (int64_t p = threadIdx.x; p < packs; p += kThreads) {
    float v[N], g[N], w[N];
    load(x + p * N, v);
    load(dy + p * N, g);
    load(op.w + p * N, w);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      dw[i * packs + p] += g[i] * v[i] * r;
      dot += g[i] * w[i] * v[i];
    }
  }
  return block_sum<kThreads>(dot);
}

template <int N, int kThreads, class X, class Y>
__device__ void write_row(const Backward<X, Y>& op, int64_t t, float r, float k) {
  const X* x = op.x[t];
  const Y* dy = op.dy[t];
  for (int64_t c = threadIdx.x * N; c < op.C; c += kThreads * N) {
    float v[N], g[N], w[N];
    load(x + c, v);
    load(dy + c, g);
    load(op.w + c, w);
#pragma unroll
    for (int i = 0; i < N; ++i) g[i] = r * (g[i] * w[i] - v[i] * k);
    if (op.dresidual.data) {
      load(op.dresidual[t] + c, v);
#pragma unroll
      for (int i = 0; i < N; ++i) g[i] += v[i];
    }
    store(op.dx[t] + c, g);
  }
}

template <int N, int kThreads, class X, class Y>
__global__ void __launch_bounds__(kThreads) rms_norm_grad(Backward<X, Y> op) {
  extern __shared__ float memory[];
  float* to = op.partial + blockIdx.x * op.C;
  float* dw = op.shared ? memory : to;
  clear_sums<N, kThreads>(dw, op.C);
  const int64_t begin = blockIdx.x * kNormRows, end = min(op.T, begin + kNormRows);
  for (int64_t t = begin; t < end; ++t) {
    const float r = op.rstd[t], dot = add_row<N, kThreads>(op, t, r, dw);
    write_row<N, kThreads>(op, t, r, r * r * dot / static_cast<float>(op.C));
  }
  if (op.shared) copy_sums<N, kThreads>(dw, to, op.C);
}

// ---- launchers ----------------------------------------------------------------------------------

template <class X, class Y>
void launch(const ops::RmsNorm& op, Stream stream) {
  const int64_t T = op.in.x.rows(), C = op.in.x.cols();
  const Forward<X, Y> job{rows_of<const X>(op.in.x),
                          ptr<const float>(op.in.w),
                          rows_of<Y>(op.y),
                          ptr<float>(op.rstd),
                          C,
                          op.eps};
  with_row(
      C, C % kPack == 0 && are_aligned({op.in.x, op.in.w, op.y}), [&](auto pack, auto threads) {
        constexpr int N = decltype(pack)::value, kThreads = decltype(threads)::value;
        rms_norm<N, kThreads><<<static_cast<unsigned>(T), kThreads, 0, stream_of(stream)>>>(job);
      });
  launched("rms_norm");
}

template <class X, class Y>
void launch(const ops::RmsNormGrad& op, float* partial, Stream stream) {
  const int64_t T = op.in.x.rows(), C = op.in.x.cols();
  const SumsPlan sums(C);
  Backward<X, Y> job{.x = rows_of<const X>(op.in.x),
                     .dresidual = {nullptr, 0},
                     .w = ptr<const float>(op.in.w),
                     .rstd = ptr<const float>(op.rstd),
                     .dy = rows_of<const Y>(op.dy),
                     .dx = rows_of<X>(op.dx),
                     .partial = partial,
                     .T = T,
                     .C = C,
                     .shared = sums.shared};
  bool aligned = sums.shared && C % kPack == 0 && are_aligned({op.in.x, op.in.w, op.dy, op.dx});
  if (op.dresidual) {
    job.dresidual = rows_of<const X>(*op.dresidual);
    aligned = aligned && is_aligned(*op.dresidual);
  }
  with_row(C, aligned, [&](auto pack, auto threads) {
    constexpr int N = decltype(pack)::value, kThreads = decltype(threads)::value;
    allow_shared(rms_norm_grad<N, kThreads, X, Y>, sums.bytes + SumsPlan::kStatic);
    rms_norm_grad<N, kThreads><<<static_cast<unsigned>(blocks_of(T, kNormRows)), kThreads,
                                 static_cast<size_t>(sums.bytes), stream_of(stream)>>>(job);
  });
  launched("rms_norm_grad");
}

}  // namespace

template <>
void need(const ops::RmsNorm&, WorkspaceNeed&) {}

template <>
void run(const ops::RmsNorm& op, Stream stream) {
  if (op.in.x.rows() == 0) return;
  with_float(op.in.x.dtype, [&](auto x) {
    with_float(op.y.dtype, [&](auto y) { launch<decltype(x), decltype(y)>(op, stream); });
  });
}

template <>
void need(const ops::RmsNormGrad& op, WorkspaceNeed& n) {
  need_workspace(n, 0, norm_partials(op.in.x) * static_cast<int64_t>(sizeof(float)));
}

template <>
void run(const ops::RmsNormGrad& op, Stream stream) {
  const int64_t T = op.in.x.rows();
  float* partial = workspace<float>(stream, 0, norm_partials(op.in.x));
  if (T > 0)
    with_float(op.in.x.dtype, [&](auto x) {
      with_float(op.dy.dtype,
                 [&](auto y) { launch<decltype(x), decltype(y)>(op, partial, stream); });
    });
  launch_fold(partial, blocks_of(T, kNormRows), op.in.x.cols(), stream,
              FoldInto{ptr<float>(op.dw), 1, op.grad == Grad::Accumulate});
}

}  // namespace ft::cuda
