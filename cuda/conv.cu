// Causal depthwise convolution + SiLU; formulas and conventions in core/ops/conv.h.
// A thread owns N channels and walks the tokens of a block, with the last inputs in registers.
// Widths other than 4 read each tap by itself.
#include "cuda/conv_common.h"

namespace ft::cuda {

using namespace conv;

namespace {

constexpr int64_t kForwardTokens = 32;  // of a block

// ---- kernels ------------------------------------------------------------------------------------

template <int N, class E>
__global__ void __launch_bounds__(kThreads, kResident) conv_window(Inputs<E> in, Rows<E> y) {
  const int64_t c = channel<N>();
  if (c >= in.C) return;
  const Span s = span_of(in, kForwardTokens);
  Window<N, E> window(in, c);
  window.fill(in, s.sequence, s.begin, c);
  for (int64_t begin = s.begin; begin < s.end; begin += kAhead) {
    const Ahead<N, E> x(in.x, s.sequence * in.L + begin, s.end - begin, c);
#pragma unroll
    for (int k = 0; k < kAhead; ++k) {
      const int64_t i = begin + k;
      if (i >= s.end) break;
      window.advance(x.token[k]);
      const int64_t lags = i - in.start(s.sequence, i) + 1;
      float out[N];
#pragma unroll
      for (int n = 0; n < N; ++n) out[n] = silu<E>(window.pre(n, lags));
      store(y[s.sequence * in.L + i] + c, out);
    }
  }
}

template <class E>
__global__ void __launch_bounds__(kThreads) conv_any(Inputs<E> in, Rows<E> y) {
  const int64_t c = channel<1>();
  if (c >= in.C) return;
  const Span s = span_of(in, kForwardTokens);
  for (int64_t i = s.begin; i < s.end; ++i)
    y[s.sequence * in.L + i][c] = from_float<E>(silu<E>(pre_of(in, s.sequence, i, c)));
}

// ---- launchers ----------------------------------------------------------------------------------

template <class E>
void forward(const ops::Conv1d& op, Stream stream) {
  const Inputs<E> in = inputs_of<E>(op.in, kForwardTokens);
  const Rows<E> y = rows_of<E>(op.y);
  if (in.k != kWidth) {
    conv_any<<<grid_of(op.in, kForwardTokens, 1), kThreads, 0, stream_of(stream)>>>(in, y);
  } else {
    with_pack(inputs_aligned(op.in) && is_aligned(op.y), [&](auto pack) {
      constexpr int N = decltype(pack)::value;
      conv_window<N><<<grid_of(op.in, kForwardTokens, N), kThreads, 0, stream_of(stream)>>>(in, y);
    });
  }
  launched("conv1d");
}

}  // namespace

template <>
void need(const ops::Conv1d&, WorkspaceNeed&) {}

template <>
void run(const ops::Conv1d& op, Stream stream) {
  if (op.in.x.size() == 0) return;
  with_float(op.in.x.dtype, [&](auto type) { forward<decltype(type)>(op, stream); });
}

}  // namespace ft::cuda
