// What the convolution and its gradient share: inputs and documents, the window of a thread, grids.
#pragma once

#include "core/ops.h"
#include "cuda/common/vector.h"

namespace ft::cuda::conv {

constexpr int kThreads = 64;
constexpr int kResident = 8;  // blocks of a multiprocessor: 128 registers a thread
constexpr int kWidth = 4;     // of the kernels with a window in registers

// ---- kernels ------------------------------------------------------------------------------------

// What both directions read. Tokens i are counted within a sequence; those before it are its
// history.
template <class E>
struct Inputs {
  Rows<const E> x, history;  // history.data may be null
  const float *w, *bias;     // bias may be null
  const int32_t* docs;
  int64_t L, C, k;
  int64_t per_sequence;   // blocks
  int64_t second, third;  // first channels of the sections B and C
  float scales[3];

  __device__ float scale(int64_t c) const {
    return c < second ? scales[0] : c < third ? scales[1] : scales[2];
  }
  __device__ float tap(int64_t c, int64_t lag) const { return w[c * k + k - 1 - lag] * scale(c); }
  __device__ float bias_of(int64_t c) const { return bias ? bias[c] : 0.0f; }
  // Where the document of token i starts, counted within the sequence.
  __device__ int64_t start(int64_t sequence, int64_t i) const {
    return docs[sequence * L + i] - sequence * L;
  }
  // N channels of token i; 0 before what exists.
  template <int N>
  __device__ void input(int64_t sequence, int64_t i, int64_t c, float (&to)[N]) const {
    if (i >= 0) return load(x[sequence * L + i] + c, to);
    if (history.data) return load(history[(sequence + 1) * (k - 1) + i] + c, to);
#pragma unroll
    for (int n = 0; n < N; ++n) to[n] = 0;
  }
};

// Taps and bias of N channels, and their inputs at the tokens i, i - 1, ... i - 3.
template <int N, class E>
struct Window {
  float taps[kWidth][N], bias[N], x[kWidth][N];

  __device__ Window(const Inputs<E>& in, int64_t c) {
#pragma unroll
    for (int n = 0; n < N; ++n) {
      bias[n] = in.bias_of(c + n);
#pragma unroll
      for (int lag = 0; lag < kWidth; ++lag) taps[lag][n] = in.tap(c + n, lag);
    }
  }
  // As if token i - 1 had been the last.
  __device__ void fill(const Inputs<E>& in, int64_t sequence, int64_t i, int64_t c) {
#pragma unroll
    for (int lag = 0; lag < kWidth - 1; ++lag) in.input(sequence, i - 1 - lag, c, x[lag]);
  }
  __device__ void advance(const Pack<E, N>& next) {
#pragma unroll
    for (int lag = kWidth - 1; lag > 0; --lag)
#pragma unroll
      for (int n = 0; n < N; ++n) x[lag][n] = x[lag - 1][n];
#pragma unroll
    for (int n = 0; n < N; ++n) x[0][n] = to_float(next.at[n]);
  }
  // With the lags that lie in the document, which are the first so many.
  __device__ float pre(int n, int64_t lags) const {
    float sum = bias[n];
#pragma unroll
    for (int lag = 0; lag < kWidth; ++lag)
      if (lag < lags) sum += taps[lag][n] * x[lag][n];
    return sum;
  }
};

// N channels of so many rows at once, so that several loads are under way.
constexpr int kAhead = 4;
template <int N, class E>
struct Ahead {
  Pack<E, N> token[kAhead];
  __device__ Ahead(const Rows<const E>& rows, int64_t row, int64_t count, int64_t c) {
#pragma unroll
    for (int k = 0; k < kAhead; ++k)
      if (k < count) token[k] = get_pack<N>(rows[row + k] + c);
  }
};

// The tokens of a block.
struct Span {
  int64_t sequence, begin, end;
};
template <class E>
__device__ Span span_of(const Inputs<E>& in, int64_t tokens) {
  const int64_t begin = blockIdx.x % in.per_sequence * tokens;
  return {blockIdx.x / in.per_sequence, begin, min(in.L, begin + tokens)};
}
template <int N>
__device__ int64_t channel() {
  return (static_cast<int64_t>(blockIdx.y) * kThreads + threadIdx.x) * N;
}

// Any width, a channel a thread.
template <class E>
__device__ float pre_of(const Inputs<E>& in, int64_t sequence, int64_t i, int64_t c) {
  const int64_t lags = min(in.k, i - in.start(sequence, i) + 1);
  float sum = in.bias_of(c);
  for (int64_t lag = 0; lag < lags; ++lag) {
    float x[1];
    in.input(sequence, i - lag, c, x);
    sum += in.tap(c, lag) * x[0];
  }
  return sum;
}
// ---- launchers ----------------------------------------------------------------------------------

inline int64_t blocks_of_tokens(const ops::Conv1dInputs& in, int64_t tokens) {
  return in.x.rows() == 0 ? 0 : in.sequences * blocks_of(in.x.rows() / in.sequences, tokens);
}

template <class E>
Inputs<E> inputs_of(const ops::Conv1dInputs& in, int64_t tokens) {
  const int64_t L = in.x.rows() / in.sequences;
  return {rows_of<const E>(in.x),
          in.history ? rows_of<const E>(*in.history) : Rows<const E>{nullptr, 0},
          ptr<const float>(in.w),
          in.bias ? ptr<const float>(*in.bias) : nullptr,
          ptr<const int32_t>(in.docs),
          L,
          in.x.cols(),
          in.w.cols(),
          blocks_of(L, tokens),
          in.sections[0],
          in.sections[0] + in.sections[1],
          {in.scales[0], in.scales[1], in.scales[2]}};
}

inline dim3 grid_of(const ops::Conv1dInputs& in, int64_t tokens, int64_t channels) {
  return {static_cast<unsigned>(blocks_of_tokens(in, tokens)),
          static_cast<unsigned>(blocks_of(in.x.cols(), kThreads * channels))};
}

inline bool inputs_aligned(const ops::Conv1dInputs& in) {
  return in.x.cols() % kPack == 0 && is_aligned(in.x) && (!in.history || is_aligned(*in.history));
}

}  // namespace ft::cuda::conv
