// Rows of a table by token id, and the gradient of the table in token order.
#include "core/ops.h"
#include "cuda/common/elementwise.h"

namespace ft::cuda {

namespace {

// ---- kernels ------------------------------------------------------------------------------------

template <class To, class From>
struct LookUp {
  Rows<To> y;
  const int32_t* ids;
  Rows<const From> weight;
  float scale;
  template <int N>
  __device__ void at(int64_t t, int64_t c) const {
    float value[N];
    load<N>(weight[ids[t]] + c, value);
#pragma unroll
    for (float& v : value) v *= scale;
    store<N>(y[t] + c, value);
  }
};

constexpr int kThreads = 256;
constexpr int kAhead = 4;  // rows that are read before the first is added

// Whether a token is the first with its id, so that one block adds up each id's rows.
__global__ void __launch_bounds__(kThreads) mark_first(const int32_t* ids, int T, uint8_t* first) {
  __shared__ int32_t tile[kThreads];
  const int t = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  const int32_t mine = t < T ? ids[t] : -1;
  bool found = false;
  for (int begin = 0; begin <= static_cast<int>(blockIdx.x) * kThreads; begin += kThreads) {
    const int at = begin + static_cast<int>(threadIdx.x);
    __syncthreads();
    tile[threadIdx.x] = at < T ? ids[at] : -1;
    __syncthreads();
    const int end = min(kThreads, t - begin);
    for (int i = 0; i < end; ++i) found |= tile[i] == mine;
    if (__syncthreads_and(found)) break;
  }
  if (t < T) first[t] = !found;
}

// Tokens [begin, begin + kThreads) with this id, in order; all threads get the count.
__device__ int matches(const int32_t* ids, int T, int begin, int32_t id, int (&list)[kThreads]) {
  __shared__ int counts[kThreads / kWarp];
  const int t = begin + static_cast<int>(threadIdx.x);
  const bool match = t < T && ids[t] == id;
  const unsigned all = __ballot_sync(0xffffffffu, match);
  const unsigned warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  __syncthreads();  // the list and counts of before have been read
  if (lane == 0) counts[warp] = __popc(all);
  __syncthreads();
  int before = 0, count = 0;
  for (unsigned w = 0; w < kThreads / kWarp; ++w) {
    if (w < warp) before += counts[w];
    count += counts[w];
  }
  if (match) list[before + __popc(all & ((1u << lane) - 1))] = t;
  __syncthreads();
  return count;
}

// A block owns kThreads columns of the row of one id.
template <class E>
__global__ void __launch_bounds__(kThreads)
    add_rows(Rows<const E> dy, const int32_t* ids, const uint8_t* first, int T, int64_t C,
             Rows<float> dweight, float scale, int64_t padding_id) {
  const int begin = static_cast<int>(blockIdx.x);
  if (!first[begin] || ids[begin] == padding_id) return;
  __shared__ int list[kThreads];
  const int32_t id = ids[begin];
  const int64_t c = int64_t{blockIdx.y} * kThreads + threadIdx.x;
  float sum = c < C ? dweight[id][c] : 0.0f;
  for (int tile = begin / kThreads * kThreads; tile < T; tile += kThreads) {
    const int count = matches(ids, T, tile, id, list);
    if (c >= C) continue;
    int i = 0;
    for (; i + kAhead <= count; i += kAhead) {
      float x[kAhead];
#pragma unroll
      for (int j = 0; j < kAhead; ++j) x[j] = to_float(dy[list[i + j]][c]);
#pragma unroll
      for (int j = 0; j < kAhead; ++j) sum += scale * x[j];
    }
    for (; i < count; ++i) sum += scale * to_float(dy[list[i]][c]);
  }
  if (c < C) dweight[id][c] = sum;
}

}  // namespace

// ---- launchers ----------------------------------------------------------------------------------

template <>
void need(const ops::Embedding&, WorkspaceNeed&) {}

template <>
void run(const ops::Embedding& op, Stream stream) {
  const int64_t T = op.y.rows(), C = op.y.cols();
  const bool wide = allow_wide(C, op.y, op.weight);
  with_float(op.y.dtype, [&](auto to) {
    with_float(op.weight.dtype, [&](auto from) {
      using To = decltype(to);
      using From = decltype(from);
      const LookUp<To, From> each{rows_of<To>(op.y), ptr<const int32_t>(op.ids),
                                  rows_of<const From>(op.weight), op.scale};
      for_each("embedding", each, T, C, wide, stream);
    });
  });
}

template <>
void need(const ops::EmbeddingGrad& op, WorkspaceNeed& n) {
  need_workspace(n, 0, op.dy.rows());
}

template <>
void run(const ops::EmbeddingGrad& op, Stream stream) {
  const int64_t C = op.dy.cols();
  const int T = narrow<int>(op.dy.rows());
  const Rows<float> dweight = rows_of<float>(op.dweight);
  const cudaStream_t on = stream_of(stream);
  if (op.grad == Grad::Overwrite && op.dweight.size() > 0)
    FT_CUDA(cudaMemset2DAsync(dweight.data, static_cast<size_t>(dweight.stride) * sizeof(float), 0,
                              static_cast<size_t>(C) * sizeof(float),
                              static_cast<size_t>(op.dweight.rows()), on));
  if (T == 0 || C == 0) return;
  auto* first = workspace<uint8_t>(stream, 0, T);
  const auto* ids = ptr<const int32_t>(op.ids);
  mark_first<<<static_cast<unsigned>(blocks_of(T, kThreads)), kThreads, 0, on>>>(ids, T, first);
  launched("mark_first");
  const dim3 grid(static_cast<unsigned>(T), static_cast<unsigned>(blocks_of(C, int64_t{kThreads})));
  with_float(op.dy.dtype, [&](auto element) {
    using E = decltype(element);
    add_rows<<<grid, kThreads, 0, on>>>(rows_of<const E>(op.dy), ids, first, T, C, dweight,
                                        op.scale, op.padding_id);
    launched("add_rows");
  });
}

}  // namespace ft::cuda
