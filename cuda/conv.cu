// Causal depthwise convolution + SiLU; formulas and conventions in core/ops/conv.h.
//   pre[t, c] = bias[c] + sum_lag tap[c, lag] x[t - lag, c],  lags inside the document
//   dpre      = dy * silu'(pre)
//   dx[t]     = sum_lag tap[lag] dpre[t + lag]
//   dw[lag]   = scale * sum_t dpre[t] x[t - lag]
// tap: the weight of a lag times its section's scale. A thread owns neighbouring channels and walks
// a run of a sequence's tokens with the last k inputs in registers. Backward computes dpre again for
// the k-1 tokens after its run. Widths k above kMostTaps go element by element.
#include "core/ops.h"
#include "cuda/common/silu.h"
#include "cuda/common/vector.h"

namespace ft::cuda {

namespace {

// ---- kernels ------------------------------------------------------------------------------------

constexpr int kThreads = 128;
constexpr int kMostTaps = 4;
constexpr int64_t kForwardRun = 32, kBackwardRun = 64;  // tokens

// What both directions read.
template <class E>
struct Inputs {
  Rows<const E> x, history;  // history null: none
  const float *w, *bias;     // bias null: none
  const int32_t* docs;
  int64_t B, L, C, k;     // L: tokens of a sequence
  int64_t second, third;  // the channels where sections begin
  float first_scale, second_scale, third_scale;

  __device__ float scale(int64_t c) const {
    return c < second ? first_scale : c < third ? second_scale : third_scale;
  }
  __device__ float tap(int64_t c, int64_t lag) const { return w[c * k + k - 1 - lag] * scale(c); }
  __device__ float bias_of(int64_t c) const { return bias ? bias[c] : 0.0f; }
  // Token i of a sequence, which may lie before it; zero before what exists.
  template <int N>
  __device__ void input(int64_t sequence, int64_t i, int64_t c, float (&to)[N]) const {
    if (i >= 0) return load(x[sequence * L + i] + c, to);
    if (history.data) return load(history[(sequence + 1) * (k - 1) + i] + c, to);
#pragma unroll
    for (int n = 0; n < N; ++n) to[n] = 0;
  }
  // Where the document of token i of a sequence starts, relative to the sequence.
  __device__ int64_t start(int64_t sequence, int64_t i) const {
    return docs[sequence * L + i] - sequence * L;
  }
  // The largest lag of token i that its document holds; no more than k-1.
  __device__ int most_lag(int64_t sequence, int64_t i) const {
    return static_cast<int>(min(i - start(sequence, i), k - 1));
  }
};

// A run of tokens of a sequence and N channels: what a thread does.
struct Job {
  int64_t run, sequence, begin, end, c;
  template <class E>
  __device__ Job(const Inputs<E>& s, int64_t tokens, int channels) {
    const int64_t columns = blocks_of<int64_t>(s.C, static_cast<int64_t>(kThreads) * channels),
                  per_sequence = blocks_of(s.L, tokens);
    run = blockIdx.x / columns;
    sequence = run / per_sequence, begin = run % per_sequence * tokens;
    end = min(begin + tokens, s.L);
    c = (blockIdx.x % columns * kThreads + threadIdx.x) * channels;
  }
};

// The taps of N channels and their last K inputs, by lag.
template <int K, int N, class E>
struct Window {
  float taps[K][N], bias[N], x[K][N];

  __device__ Window(const Inputs<E>& s, const Job& job) {
#pragma unroll
    for (int n = 0; n < N; ++n) {
      bias[n] = s.bias_of(job.c + n);
#pragma unroll
      for (int lag = 0; lag < K; ++lag) taps[lag][n] = s.tap(job.c + n, lag);
    }
#pragma unroll
    for (int lag = 0; lag + 1 < K; ++lag) s.input(job.sequence, job.begin - 1 - lag, job.c, x[lag]);
  }
  // Token i comes in: the pre-activation. Lags above `most` are in another document.
  __device__ void enter(const float (&input)[N], int most, float (&pre)[N]) {
#pragma unroll
    for (int n = 0; n < N; ++n) {
#pragma unroll
      for (int lag = K - 1; lag > 0; --lag) x[lag][n] = x[lag - 1][n];
      x[0][n] = input[n];
      pre[n] = bias[n];
#pragma unroll
      for (int lag = 0; lag < K; ++lag)
        if (lag <= most) pre[n] += taps[lag][n] * x[lag][n];
    }
  }
};

template <int K, int N, class E>
__global__ void __launch_bounds__(kThreads) convolve(Inputs<E> s, Rows<E> y) {
  const Job job(s, kForwardRun, N);
  if (job.c >= s.C) return;
  Window<K, N, E> window(s, job);
#pragma unroll 4
  for (int64_t i = job.begin; i < job.end; ++i) {
    float x[N], pre[N];
    s.input(job.sequence, i, job.c, x);
    window.enter(x, s.most_lag(job.sequence, i), pre);
#pragma unroll
    for (int n = 0; n < N; ++n) pre[n] = silu<E>(pre[n]);
    store(y[job.sequence * s.L + i] + job.c, pre);
  }
}

template <class E>
struct Gradients {
  Rows<const E> dy;
  Rows<E> dx;
  float* dhistory;  // null: none
  float* partial;   // [runs][k + 1][C]: dtaps by lag, dbias
};

template <int K, int N, class E>
__global__ void __launch_bounds__(kThreads) convolve_gradient(Inputs<E> s, Gradients<E> a) {
  const Job job(s, kBackwardRun, N);
  if (job.c >= s.C) return;
  Window<K, N, E> window(s, job);
  float dtaps[K][N] = {}, dbias[N] = {};
  float dx[K][N] = {};  // of the tokens i - lag, as far as it is known
  for (int64_t i = job.begin; i < job.end + K - 1; ++i) {
#pragma unroll
    for (int n = 0; n < N; ++n) {
#pragma unroll
      for (int lag = K - 1; lag > 0; --lag) dx[lag][n] = dx[lag - 1][n];
      dx[0][n] = 0;
    }
    if (i < s.L) {
      float x[N], d[N], dy[N];
      const int most = s.most_lag(job.sequence, i);
      s.input(job.sequence, i, job.c, x);
      load(a.dy[job.sequence * s.L + i] + job.c, dy);
      window.enter(x, most, d);
#pragma unroll
      for (int n = 0; n < N; ++n) {
        d[n] = dy[n] * silu_slope(d[n], sigmoid<E>(d[n]));
        if (i < job.end) dbias[n] += d[n];
#pragma unroll
        for (int lag = 0; lag < K; ++lag)
          if (lag <= most) {
            dx[lag][n] += window.taps[lag][n] * d[n];
            if (i < job.end) dtaps[lag][n] += d[n] * window.x[lag][n];
          }
      }
    }
    const int64_t done = i - (K - 1);
    if (done >= job.begin) store(a.dx[job.sequence * s.L + done] + job.c, dx[K - 1]);
    else if (done < 0 && a.dhistory)
      store(a.dhistory + ((job.sequence + 1) * (K - 1) + done) * s.C + job.c, dx[K - 1]);
  }
  float* partial = a.partial + job.run * (K + 1) * s.C + job.c;
#pragma unroll
  for (int lag = 0; lag < K; ++lag) store(partial + lag * s.C, dtaps[lag]);
  store(partial + K * s.C, dbias);
}

// Sums over the runs, [k + 1][C], into dw [C][k] and dbias.
template <class E>
struct PutSums {
  Inputs<E> s;
  float *dw, *dbias;  // dbias null: none
  bool accumulate;
  __device__ void operator()(int64_t i, double sum) const {
    const int64_t lag = i / s.C, c = i % s.C;
    if (lag < s.k) PutGradient{dw, accumulate}(c * s.k + s.k - 1 - lag, s.scale(c) * sum);
    else if (dbias) PutGradient{dbias, accumulate}(c, sum);
  }
};

// ---- kernels for any width: a thread for an element ---------------------------------------------

template <class E>
__device__ float any_pre(const Inputs<E>& s, int64_t sequence, int64_t i, int64_t c) {
  const int most = s.most_lag(sequence, i);
  float pre = s.bias_of(c);
  for (int64_t lag = 0; lag <= most; ++lag) {
    float x[1];
    s.input(sequence, i - lag, c, x);
    pre += s.tap(c, lag) * x[0];
  }
  return pre;
}

__device__ inline int64_t any_element() {
  return static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
}

template <class E>
__global__ void __launch_bounds__(kThreads) any_convolve(Inputs<E> s, Rows<E> y) {
  const int64_t element = any_element(), t = element / s.C, c = element % s.C;
  if (t >= s.B * s.L) return;
  const float pre = any_pre(s, t / s.L, t % s.L, c);
  y[t][c] = from_float<E>(silu<E>(pre));
}

template <class E>
__global__ void __launch_bounds__(kThreads) any_dpre(Inputs<E> s, Gradients<E> a, float* dpre) {
  const int64_t element = any_element(), t = element / s.C, c = element % s.C;
  if (t >= s.B * s.L) return;
  const float pre = any_pre(s, t / s.L, t % s.L, c);
  dpre[element] = to_float(a.dy[t][c]) * silu_slope(pre, sigmoid<E>(pre));
}

// Of the tokens of each sequence and the k-1 before it.
template <class E>
__global__ void __launch_bounds__(kThreads) any_dx(Inputs<E> s, Gradients<E> a, const float* dpre) {
  const int64_t element = any_element(), row = element / s.C, c = element % s.C,
                tall = s.L + s.k - 1, sequence = row / tall, i = row % tall - (s.k - 1);
  if (sequence >= s.B || (i < 0 && !a.dhistory)) return;
  float sum = 0;
  for (int64_t lag = 0; lag < s.k; ++lag) {
    const int64_t later = i + lag;
    if (later >= 0 && later < s.L && i >= s.start(sequence, later))
      sum += s.tap(c, lag) * dpre[(sequence * s.L + later) * s.C + c];
  }
  if (i >= 0) a.dx[sequence * s.L + i][c] = from_float<E>(sum);
  else a.dhistory[((sequence + 1) * (s.k - 1) + i) * s.C + c] = sum;
}

template <class E>
__global__ void __launch_bounds__(kThreads)
    any_sums(Inputs<E> s, Gradients<E> a, const float* dpre) {
  const int64_t element = any_element(), c = element % s.C, lag = element / s.C % (s.k + 1),
                run = element / s.C / (s.k + 1), per_sequence = blocks_of(s.L, kBackwardRun),
                sequence = run / per_sequence, begin = run % per_sequence * kBackwardRun,
                end = min(begin + kBackwardRun, s.L);
  if (sequence >= s.B) return;
  float sum = 0;
  for (int64_t i = begin; i < end; ++i) {
    float x[1] = {1};  // bias
    if (lag < s.k) {
      if (i - lag < s.start(sequence, i)) continue;
      s.input(sequence, i - lag, c, x);
    }
    sum += dpre[(sequence * s.L + i) * s.C + c] * x[0];
  }
  a.partial[element] = sum;
}

// ---- launchers ----------------------------------------------------------------------------------

template <class E>
Inputs<E> inputs_of(const ops::Conv1dInputs& in) {
  const bool history = in.history && in.history_rows() > 0;
  return {rows_of<const E>(in.x),
          history ? rows_of<const E>(*in.history) : Rows<const E>{nullptr, 0},
          ptr<const float>(in.w),
          in.bias ? ptr<const float>(*in.bias) : nullptr,
          ptr<const int32_t>(in.docs),
          in.sequences,
          in.x.rows() / in.sequences,
          in.x.cols(),
          in.w.cols(),
          in.sections[0],
          in.sections[0] + in.sections[1],
          in.scales[0],
          in.scales[1],
          in.scales[2]};
}

int64_t runs_of(const ops::Conv1dInputs& in, int64_t tokens) {
  return in.sequences * blocks_of(in.x.rows() / in.sequences, tokens);
}

unsigned blocks_for(int64_t elements) {
  return static_cast<unsigned>(blocks_of<int64_t>(elements, kThreads));
}

// f(integral_constant<int, K>, integral_constant<int, N>): taps, channels of a thread.
template <int kChannels, class F>
void with_taps(int64_t k, bool packs, F&& f) {
  using std::integral_constant;
  const auto channels = [&](auto taps) {
    if (packs) f(taps, integral_constant<int, kChannels>{});
    else f(taps, integral_constant<int, 1>{});
  };
  if (k == 1) channels(integral_constant<int, 1>{});
  else if (k == 2) channels(integral_constant<int, 2>{});
  else if (k == 3) channels(integral_constant<int, 3>{});
  else channels(integral_constant<int, 4>{});
}

bool packs(const ops::Conv1dInputs& in, int64_t channels) {
  return aligned(in.x) && (!in.history || aligned(*in.history)) && in.x.cols() % channels == 0;
}

template <class E>
void forward(const ops::Conv1d& op, Stream stream) {
  const Inputs<E> s = inputs_of<E>(op.in);
  const Rows<E> y = rows_of<E>(op.y);
  constexpr int kChannels = 4;
  if (s.k > kMostTaps) {
    any_convolve<<<blocks_for(s.B * s.L * s.C), kThreads, 0, stream_of(stream)>>>(s, y);
  } else {
    with_taps<kChannels>(s.k, packs(op.in, kChannels) && aligned(op.y), [&](auto k, auto n) {
      constexpr int kTaps = k, kEach = n;
      const int64_t columns = blocks_of<int64_t>(s.C, kThreads * kEach);
      const auto blocks = static_cast<unsigned>(runs_of(op.in, kForwardRun) * columns);
      convolve<kTaps, kEach><<<blocks, kThreads, 0, stream_of(stream)>>>(s, y);
    });
  }
  launched("conv1d");
}

template <class E>
void backward(const ops::Conv1dGrad& op, Stream stream) {
  const Inputs<E> s = inputs_of<E>(op.in);
  const int64_t runs = runs_of(op.in, kBackwardRun), sums = (s.k + 1) * s.C;
  const bool history = op.dhistory && op.in.history_rows() > 0;
  const Gradients<E> a{rows_of<const E>(op.dy), rows_of<E>(op.dx),
                       history ? ptr<float>(*op.dhistory) : nullptr,
                       workspace<float>(stream, 0, runs * sums)};
  constexpr int kChannels = 2;
  if (runs == 0) {
    // no tokens: sums of nothing
  } else if (s.k > kMostTaps) {
    float* dpre = workspace<float>(stream, 1, s.B * s.L * s.C);
    const auto queue = stream_of(stream);
    any_dpre<<<blocks_for(s.B * s.L * s.C), kThreads, 0, queue>>>(s, a, dpre);
    any_dx<<<blocks_for(s.B * (s.L + s.k - 1) * s.C), kThreads, 0, queue>>>(s, a, dpre);
    any_sums<<<blocks_for(runs * sums), kThreads, 0, queue>>>(s, a, dpre);
  } else {
    const bool wide = packs(op.in, kChannels) && aligned(op.dy) && aligned(op.dx) &&
                      (!op.dhistory || aligned(*op.dhistory));
    with_taps<kChannels>(s.k, wide, [&](auto k, auto n) {
      constexpr int kTaps = k, kEach = n;
      const int64_t columns = blocks_of<int64_t>(s.C, kThreads * kEach);
      const auto blocks = static_cast<unsigned>(runs * columns);
      convolve_gradient<kTaps, kEach><<<blocks, kThreads, 0, stream_of(stream)>>>(s, a);
    });
  }
  launched("conv1d_grad");
  fold(a.partial, runs, sums,
       PutSums<E>{s, ptr<float>(op.dw), op.dbias ? ptr<float>(*op.dbias) : nullptr,
                  op.grad == Grad::Accumulate},
       stream);
}

}  // namespace

template <>
void need(const ops::Conv1d&, WorkspaceNeed&) {}

template <>
void run(const ops::Conv1d& op, Stream stream) {
  if (op.in.x.rows() == 0 || op.in.x.cols() == 0) return;
  with_float(op.in.x.dtype, [&](auto e) { forward<decltype(e)>(op, stream); });
}

template <>
void need(const ops::Conv1dGrad& op, WorkspaceNeed& n) {
  const int64_t k = op.in.w.cols(), C = op.in.x.cols();
  const auto floats = [](int64_t count) { return count * static_cast<int64_t>(sizeof(float)); };
  need_workspace(n, 0, floats(runs_of(op.in, kBackwardRun) * (k + 1) * C));
  if (k > kMostTaps) need_workspace(n, 1, floats(op.in.x.rows() * C));
}

template <>
void run(const ops::Conv1dGrad& op, Stream stream) {
  if (op.in.x.cols() == 0) return;
  with_float(op.in.x.dtype, [&](auto e) { backward<decltype(e)>(op, stream); });
}

}  // namespace ft::cuda
