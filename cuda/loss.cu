// Cross-entropy with an online softmax in fp32 (Milakov and Gimelshein 2018), a block for a row: one
// pass finds the maximum and the sum, a second one puts the gradient in the logits' place.
#include "core/ops.h"
#include "cuda/common/vector.h"

namespace ft::cuda {

namespace {

// ---- kernels ------------------------------------------------------------------------------------

// Of a block of kThreads; every thread has it. NaNs are passed over: the sum shows them.
template <int kThreads>
__device__ float block_max(float value) {
  constexpr int kWarps = kThreads / kWarp;
  __shared__ float parts[kWarps];
  value = warp_max(value);
  if (threadIdx.x % kWarp == 0) parts[threadIdx.x / kWarp] = value;
  __syncthreads();
  value = parts[0];
  for (int w = 1; w < kWarps; ++w) value = fmaxf(value, parts[w]);
  return value;
}

// e^x; bf16 logits need no more than the hardware's approximation.
template <class E>
__device__ float exponential(float x) {
  if constexpr (std::is_same_v<E, bfloat16>) return __expf(x);
  else return expf(x);
}

template <class E>
struct Args {
  float *loss, *z;
  Rows<E> logits;
  const int32_t* labels;
  const float* inv_count;  // null: no gradient
  int64_t vocab, columns;
  float z_loss;
};

template <int kPack, int kThreads, class E>
__global__ void __launch_bounds__(kThreads) cross_entropy(Args<E> a) {
  const int64_t t = blockIdx.x;
  E* logits = a.logits[t];
  const int label = a.labels[t];
  const auto clear = [&](int64_t c, auto n) {
    const float none[n] = {};
    store(logits + c, none);
  };
  if (label < 0) {
    if (threadIdx.x == 0) a.loss[t] = 0, a.z[t] = 0;
    if (a.inv_count) each_pack<kPack, kThreads>(a.columns, clear);
    return;
  }
  const float at_label = to_float(logits[label]);
  float high = -INFINITY, sum = 0;
  each_pack<kPack, kThreads>(a.vocab, [&](int64_t c, auto n) {
    float x[n];
    load(logits + c, x);
    float peak = high;
#pragma unroll
    for (int i = 0; i < n; ++i) peak = fmaxf(peak, x[i]);
    const float from = peak == -INFINITY ? 0.0f : peak;  // nothing above it yet
    if (peak > high) sum *= exponential<E>(high - from);
#pragma unroll
    for (int i = 0; i < n; ++i) sum += exponential<E>(x[i] - from);
    high = peak;
  });
  const float peak = block_max<kThreads>(high);
  sum = block_sum<kThreads>(sum * expf(high - peak));
  const float log_sum = logf(sum), lse = peak + log_sum;
  if (threadIdx.x == 0) {
    a.loss[t] = log_sum - (at_label - peak);
    a.z[t] = lse * lse;
  }
  if (!a.inv_count) return;
  const float inv = *a.inv_count, scale = inv * (1.0f + 2.0f * a.z_loss * lse) / sum;
  each_pack<kPack, kThreads>(a.vocab, [&](int64_t c, auto n) {
    float x[n];
    load(logits + c, x);
#pragma unroll
    for (int i = 0; i < n; ++i) {
      x[i] = scale * exponential<E>(x[i] - peak);
      if (c + i == label) x[i] -= inv;
    }
    store(logits + c, x);
  });
  for (int64_t c = a.vocab + threadIdx.x; c < a.columns; c += kThreads)
    clear(c, std::integral_constant<int, 1>{});
}

// ---- launchers ----------------------------------------------------------------------------------

template <class E>
void launch(const ops::CrossEntropy& op, Stream stream) {
  const Args<E> args{ptr<float>(op.loss),
                     ptr<float>(op.z),
                     rows_of<E>(op.logits),
                     ptr<const int32_t>(op.labels),
                     op.inv_count ? ptr<const float>(*op.inv_count) : nullptr,
                     op.vocab,
                     op.logits.cols(),
                     op.z_loss};
  const auto rows = static_cast<unsigned>(op.logits.rows());
  const auto start = [&](auto pack) {
    constexpr int kPack = pack;
    if (op.vocab < 16 * 1024) cross_entropy<kPack, 256><<<rows, 256, 0, stream_of(stream)>>>(args);
    else cross_entropy<kPack, 1024><<<rows, 1024, 0, stream_of(stream)>>>(args);
    launched("cross_entropy");
  };
  if (aligned(op.logits)) start(std::integral_constant<int, 16 / sizeof(E)>{});
  else start(std::integral_constant<int, 1>{});
}

}  // namespace

template <>
void need(const ops::CrossEntropy&, WorkspaceNeed&) {}

template <>
void run(const ops::CrossEntropy& op, Stream stream) {
  if (op.logits.rows() == 0) return;
  with_float(op.logits.dtype, [&](auto e) { launch<decltype(e)>(op, stream); });
}

}  // namespace ft::cuda
