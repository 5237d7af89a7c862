// The gradient of the causal convolution; formulas and conventions in core/ops/conv.h.
//   pre[t, c] = bias[c] + sum_s w[c, k-1-s] * scale(c) * x[t - s, c],  lags s inside the document
//   dpre      = dy * silu'(pre)
//   dx[t]     = scale * sum_s w[k-1-s] dpre[t + s]
//   dw[k-1-s] = scale * sum_t dpre[t] x[t - s]
// A thread owns N channels and walks the tokens of a block and the k-1 after it, with the last inputs
// and gradients in registers. Widths other than 4 read each tap by itself.
#include "cuda/common/fold.h"
#include "cuda/conv_common.h"

namespace ft::cuda {

using namespace conv;

namespace {

constexpr int64_t kGradTokens = 64;  // of a block

// ---- kernels ------------------------------------------------------------------------------------

template <class E>
struct Outputs {
  Rows<const E> dy;
  Rows<E> dx;
  float* dhistory;  // or null
  float* partial;   // [blocks][k + 1][C]: of taps by lag, and of the bias
  __device__ float* sums(int64_t k, int64_t C) const { return partial + blockIdx.x * (k + 1) * C; }
};

// Token j's gradient is complete: it goes where the token lies.
template <int N, class E>
__device__ void put_gradient(const Inputs<E>& in, const Outputs<E>& out, const Span& s, int64_t j,
                             int64_t c, const float (&g)[N]) {
  if (j >= s.begin) return store(out.dx[s.sequence * in.L + j] + c, g);
  if (s.begin > 0 || !out.dhistory) return;
  float* to = out.dhistory + ((s.sequence + 1) * (in.k - 1) + j) * in.C + c;
#pragma unroll
  for (int n = 0; n < N; ++n) to[n] = g[n];
}

// Of the tokens i, i - 1, ... i - 3: their gradients so far; and the block's sums.
template <int N, class E>
struct Collected {
  float dx[kWidth][N] = {}, sums[kWidth + 1][N] = {};

  __device__ void advance() {
#pragma unroll
    for (int lag = kWidth - 1; lag > 0; --lag)
#pragma unroll
      for (int n = 0; n < N; ++n) dx[lag][n] = dx[lag - 1][n];
#pragma unroll
    for (int n = 0; n < N; ++n) dx[0][n] = 0;
  }
  // Token i, which is the window's; it counts for the sums where the block owns it.
  __device__ void add(const Window<N, E>& window, const Pack<E, N>& dy, int64_t lags, bool own) {
#pragma unroll
    for (int n = 0; n < N; ++n) {
      const float d = to_float(dy.at[n]) * silu_slope<E>(window.pre(n, lags));
      if (own) sums[kWidth][n] += d;
#pragma unroll
      for (int lag = 0; lag < kWidth; ++lag) {
        if (lag >= lags) continue;
        dx[lag][n] += window.taps[lag][n] * d;
        if (own) sums[lag][n] += d * window.x[lag][n];
      }
    }
  }
};

template <int N, class E>
__global__ void __launch_bounds__(kThreads, kResident)
    conv_window_grad(Inputs<E> in, Outputs<E> out) {
  const int64_t c = channel<N>();
  if (c >= in.C) return;
  const Span s = span_of(in, kGradTokens);
  const int64_t first = s.sequence * in.L, end = s.end + kWidth - 1;
  Window<N, E> window(in, c);
  window.fill(in, s.sequence, s.begin, c);
  Collected<N, E> all;
  for (int64_t begin = s.begin; begin < end; begin += kAhead) {
    const int64_t there = min(in.L, end) - begin;
    const Ahead<N, E> x(in.x, first + begin, there, c), dy(out.dy, first + begin, there, c);
#pragma unroll
    for (int k = 0; k < kAhead; ++k) {
      const int64_t i = begin + k;
      if (i >= end) break;
      all.advance();
      if (i < in.L) {
        window.advance(x.token[k]);
        all.add(window, dy.token[k], i - in.start(s.sequence, i) + 1, i < s.end);
      }
      put_gradient(in, out, s, i - (kWidth - 1), c, all.dx[kWidth - 1]);
    }
  }
  float* to = out.sums(kWidth, in.C) + c;
#pragma unroll
  for (int row = 0; row <= kWidth; ++row)
#pragma unroll
    for (int n = 0; n < N; ++n) to[row * in.C + n] = all.sums[row][n];
}

// Any width, a channel a thread.
template <class E>
__device__ float dpre_of(const Inputs<E>& in, const Outputs<E>& out, int64_t sequence, int64_t i,
                         int64_t c) {
  return to_float(out.dy[sequence * in.L + i][c]) * silu_slope<E>(pre_of(in, sequence, i, c));
}

// From the tokens i + lag that see token i, which is in the history where it is below 0.
template <class E>
__device__ float dx_of(const Inputs<E>& in, const Outputs<E>& out, int64_t sequence, int64_t i,
                       int64_t c) {
  float sum = 0;
  for (int64_t lag = 0; lag < in.k; ++lag) {
    const int64_t later = i + lag;
    if (later < 0 || later >= in.L || i < in.start(sequence, later)) continue;
    sum += in.tap(c, lag) * dpre_of(in, out, sequence, later, c);
  }
  return sum;
}

template <class E>
__global__ void __launch_bounds__(kThreads) conv_any_grad(Inputs<E> in, Outputs<E> out) {
  const int64_t c = channel<1>();
  if (c >= in.C) return;
  const Span s = span_of(in, kGradTokens);
  for (int64_t i = s.begin == 0 ? 1 - in.k : s.begin; i < s.end; ++i) {
    const float g[1] = {dx_of(in, out, s.sequence, i, c)};
    put_gradient(in, out, s, i, c, g);
  }
  float* to = out.sums(in.k, in.C) + c;
  float bias = 0;
  for (int64_t lag = 0; lag < in.k; ++lag) {
    float sum = 0;
    for (int64_t i = s.begin; i < s.end; ++i) {
      const float d = dpre_of(in, out, s.sequence, i, c);
      if (lag == 0) bias += d;
      if (i - lag < in.start(s.sequence, i)) continue;
      float x[1];
      in.input(s.sequence, i - lag, c, x);
      sum += d * x[0];
    }
    to[lag * in.C] = sum;
  }
  to[in.k * in.C] = bias;
}

// Of column [lag][c] or [k][c] of the partial sums.
template <class E>
struct FoldTaps {
  Inputs<E> in;
  float *dw, *dbias;  // dbias may be null
  bool accumulate;
  __device__ void operator()(int64_t column, double sum) const {
    const int64_t row = column / in.C, c = column % in.C;
    if (row == in.k && !dbias) return;
    float* to = row < in.k ? dw + c * in.k + in.k - 1 - row : dbias + c;
    const float value = static_cast<float>(sum) * (row < in.k ? in.scale(c) : 1.0f);
    *to = accumulate ? *to + value : value;
  }
};

// ---- launchers ----------------------------------------------------------------------------------

template <class E>
void go_back(const ops::Conv1dGrad& op, const Inputs<E>& in, float* partial, Stream stream) {
  const Outputs<E> out{rows_of<const E>(op.dy), rows_of<E>(op.dx),
                       op.dhistory ? ptr<float>(*op.dhistory) : nullptr, partial};
  if (in.k != kWidth) {
    conv_any_grad<<<grid_of(op.in, kGradTokens, 1), kThreads, 0, stream_of(stream)>>>(in, out);
  } else {
    with_pack<4>(inputs_aligned(op.in) && is_aligned(op.dy) && is_aligned(op.dx), [&](auto pack) {
      constexpr int N = decltype(pack)::value;
      conv_window_grad<N>
          <<<grid_of(op.in, kGradTokens, N), kThreads, 0, stream_of(stream)>>>(in, out);
    });
  }
  launched("conv1d_grad");
}

template <class E>
void backward(const ops::Conv1dGrad& op, float* partial, Stream stream) {
  const Inputs<E> in = inputs_of<E>(op.in, kGradTokens);
  const int64_t blocks = blocks_of_tokens(op.in, kGradTokens);
  if (blocks > 0) go_back(op, in, partial, stream);
  launch_fold(partial, blocks, (in.k + 1) * in.C, stream,
              FoldTaps<E>{in, ptr<float>(op.dw), op.dbias ? ptr<float>(*op.dbias) : nullptr,
                          op.grad == Grad::Accumulate});
}

int64_t partials_of(const ops::Conv1dInputs& in) {
  return blocks_of_tokens(in, kGradTokens) * (in.w.cols() + 1) * in.x.cols();
}

}  // namespace

template <>
void need(const ops::Conv1dGrad& op, WorkspaceNeed& n) {
  need_workspace(n, 0, partials_of(op.in) * static_cast<int64_t>(sizeof(float)));
}

template <>
void run(const ops::Conv1dGrad& op, Stream stream) {
  if (op.in.x.cols() == 0) return;
  float* partial = workspace<float>(stream, 0, partials_of(op.in));
  with_float(op.in.x.dtype, [&](auto type) { backward<decltype(type)>(op, partial, stream); });
}

}  // namespace ft::cuda
