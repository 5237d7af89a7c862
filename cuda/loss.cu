// Cross-entropy: a block a row. Highest logit and sum of exponentials in one pass, the gradient in
// their place in another, which finds in shared memory as much of the row as went in.
#include "core/ops.h"
#include "cuda/common/vector.h"

namespace ft::cuda {

namespace {

constexpr int kThreads = 1024;

// ---- kernels ------------------------------------------------------------------------------------

template <class E>
__device__ inline float exp_of(float x) {
  if constexpr (std::is_same_v<E, bfloat16>) return __expf(x);
  else return expf(x);
}

struct Job {
  const int32_t* labels;
  int64_t vocab, padded;
  int64_t cached;  // packs of a row that shared memory holds
  float z_loss;
  const float* inv_count;  // or null
  float *loss, *z;
};

// A thread's part of max x and of sum e^(x - max); a row without a number above -inf has shift 0.
struct Peak {
  float high = -INFINITY, sum = 0;
  __device__ float shift() const { return high == -INFINITY ? 0.0f : high; }
  template <class E, int N>
  __device__ void add(const float (&x)[N]) {
    const float before = high;
#pragma unroll
    for (int i = 0; i < N; ++i) high = fmaxf(high, x[i]);
    const float s = shift();
    if (high != before) sum *= exp_of<E>(before - s);
#pragma unroll
    for (int i = 0; i < N; ++i) sum += exp_of<E>(x[i] - s);
  }
};

__device__ inline float block_max(float value) {
  __shared__ float parts[kThreads / kWarp];
  value = warp_max(value);
  if (threadIdx.x % kWarp == 0) parts[threadIdx.x / kWarp] = value;
  __syncthreads();
  return warp_max(parts[threadIdx.x % kWarp]);
}

// Of the whole row; NaN stays in the sum. Packs of the row's beginning go to the cache.
template <int N, class E>
__device__ Peak peak_of(const E* x, const Job& job, Pack<E, N>* cache) {
  Peak own;
  const int64_t packs = job.vocab / N;
  constexpr int kAhead = sizeof(Pack<E, N>) > 16 ? 2 : 4;  // loads under way
  for (int64_t begin = threadIdx.x; begin < packs; begin += kAhead * kThreads) {
    Pack<E, N> ahead[kAhead];
#pragma unroll
    for (int k = 0; k < kAhead; ++k)
      if (begin + k * kThreads < packs) ahead[k] = get_pack<N>(x + (begin + k * kThreads) * N);
#pragma unroll
    for (int k = 0; k < kAhead; ++k) {
      const int64_t p = begin + k * kThreads;
      if (p >= packs) continue;
      if (p < job.cached) cache[p] = ahead[k];
      float v[N];
#pragma unroll
      for (int i = 0; i < N; ++i) v[i] = to_float(ahead[k].at[i]);
      own.add<E>(v);
    }
  }
  const int64_t rest = packs * N + threadIdx.x;
  if (rest < job.vocab) {
    const float v[1] = {to_float(x[rest])};
    own.add<E>(v);
  }
  Peak all;
  all.high = block_max(own.high);
  all.sum = block_sum<kThreads>(own.sum * expf(own.high - all.shift()));
  return all;
}

struct Gradient {
  float shift, scale, inv;
  int64_t label;
  template <class E>
  __device__ float at(float x, int64_t column) const {
    const float g = exp_of<E>(x - shift) * scale;
    return column == label ? g - inv : g;
  }
};

template <int N, class E>
__device__ void write_gradient(E* x, const Job& job, const Pack<E, N>* cache, const Gradient& g) {
  const int64_t packs = job.vocab / N;
  for (int64_t p = threadIdx.x; p < packs; p += kThreads) {
    const Pack<E, N> pack = p < job.cached ? cache[p] : get_pack<N>(x + p * N);
    float v[N];
#pragma unroll
    for (int i = 0; i < N; ++i) v[i] = g.at<E>(to_float(pack.at[i]), p * N + i);
    store(x + p * N, v);
  }
  const int64_t rest = packs * N + threadIdx.x;
  if (rest < job.vocab) x[rest] = from_float<E>(g.at<E>(to_float(x[rest]), rest));
  for (int64_t c = job.vocab + threadIdx.x; c < job.padded; c += kThreads)
    x[c] = from_float<E>(0.0f);
}

template <int N, class E>
__device__ void clear_row(E* x, int64_t padded) {
  const float none[N] = {};
  const int64_t packs = padded / N, rest = packs * N + threadIdx.x;
  for (int64_t p = threadIdx.x; p < packs; p += kThreads) store(x + p * N, none);
  if (rest < padded) x[rest] = from_float<E>(0.0f);
}

template <int N, class E>
__global__ void __launch_bounds__(kThreads) cross_entropy(Rows<E> logits, Job job) {
  extern __shared__ uint4 memory[];
  auto* cache = reinterpret_cast<Pack<E, N>*>(memory);
  const int64_t t = blockIdx.x;
  E* x = logits[t];
  const int32_t label = job.labels[t];
  if (label < 0 || label >= job.vocab) {
    if (threadIdx.x == 0) job.loss[t] = job.z[t] = label < 0 ? 0.0f : NAN;
    if (job.inv_count) clear_row<N>(x, job.padded);
    return;
  }
  const float target = to_float(x[label]);  // all threads, before any writes behind a barrier
  const Peak peak = peak_of<N>(x, job, cache);
  const float log_sum = logf(peak.sum), lse = peak.high + log_sum;
  if (threadIdx.x == 0) {
    job.loss[t] = log_sum - (target - peak.high);
    job.z[t] = lse * lse;
  }
  if (!job.inv_count) return;
  const float inv = *job.inv_count;
  write_gradient<N>(
      x, job, cache,
      Gradient{peak.shift(), inv * (1.0f + 2.0f * job.z_loss * lse) / peak.sum, inv, label});
}

// ---- launchers ----------------------------------------------------------------------------------

template <int N, class E>
void launch(const ops::CrossEntropy& op, Stream stream) {
  constexpr int64_t kStatic = 1024;  // room for what the sums over the block use, and as much again
  const int64_t size = N * static_cast<int64_t>(sizeof(E));
  const int64_t cached =
      op.inv_count ? std::min(op.vocab / N, (gpu().shared_memory - 2 * kStatic) / size) : 0;
  allow_shared(cross_entropy<N, E>, cached * size + kStatic);
  const Job job{ptr<const int32_t>(op.labels),
                op.vocab,
                op.logits.cols(),
                cached,
                op.z_loss,
                op.inv_count ? ptr<const float>(*op.inv_count) : nullptr,
                ptr<float>(op.loss),
                ptr<float>(op.z)};
  cross_entropy<N>
      <<<static_cast<unsigned>(op.logits.rows()), kThreads, static_cast<size_t>(cached * size),
         stream_of(stream)>>>(rows_of<E>(op.logits), job);
  launched("cross_entropy");
}

}  // namespace

template <>
void need(const ops::CrossEntropy&, WorkspaceNeed&) {}

template <>
void run(const ops::CrossEntropy& op, Stream stream) {
  if (op.logits.rows() == 0) return;
  with_float(op.logits.dtype, [&](auto type) {
    using E = decltype(type);
    with_pack(is_aligned(op.logits),
              [&](auto pack) { launch<decltype(pack)::value, E>(op, stream); });
  });
}

}  // namespace ft::cuda
