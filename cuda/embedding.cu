// Rows of a table by token id, and the gradient of the table. For the gradient tokens are sorted by
// id, those of an id in order; a block then walks the tokens of one id for a strip of columns.
#include "core/ops.h"
#include "cuda/common/vector.h"

#include <cub/device/device_radix_sort.cuh>

#include <bit>

namespace ft::cuda {

namespace {

constexpr int kThreads = 128;

// ---- kernels ------------------------------------------------------------------------------------

// An id outside of the table, which the CPU refuses, is NaN here.
template <class Y, class W>
struct LookUp {
  Rows<Y> y;
  Rows<const W> weight;
  const int32_t* ids;
  int64_t V;
  float scale;
  template <int N>
  __device__ void at(int64_t t, int64_t col) const {
    const int64_t id = ids[t];
    float v[N];
    if (id >= 0 && id < V) load(weight[id] + col, v);
#pragma unroll
    for (int i = 0; i < N; ++i) v[i] = id >= 0 && id < V ? v[i] * scale : NAN;
    store(y[t] + col, v);
  }
};

// Ids without a gradient become V and are sorted behind all others.
__global__ void number_tokens(const int32_t* ids, int64_t T, int32_t V, int64_t padding_id,
                              int32_t* keys, int32_t* tokens) {
  const int64_t t = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (t >= T) return;
  const int32_t id = ids[t];
  keys[t] = id < 0 || id >= V || id == padding_id ? V : id;
  tokens[t] = static_cast<int32_t>(t);
}

struct ClearPack {
  Rows<float> y;
  template <int N>
  __device__ void at(int64_t row, int64_t col) const {
    const float none[N] = {};
    store(y[row] + col, none);
  }
};

// One past the last of the keys that equal the first one: in strides that double, then by halves.
__device__ inline int64_t end_of(const int32_t* keys, int64_t first, int64_t T) {
  const int32_t id = keys[first];
  int64_t stride = 1;
  while (first + stride < T && keys[first + stride] == id) stride *= 2;
  int64_t low = first + stride / 2 + 1, high = min(T, first + stride);
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (keys[middle] == id) low = middle + 1;
    else high = middle;
  }
  return low;
}

// The block of an id's first token adds up all of them; N divides C.
template <int N, class E>
__global__ void add_tokens(Rows<float> dweight, Rows<const E> dy, const int32_t* keys,
                           const int32_t* tokens, int64_t T, int64_t C, int32_t V, float scale,
                           bool accumulate) {
  const int64_t first = blockIdx.x;
  const int32_t id = keys[first];
  if (id == V || (first > 0 && keys[first - 1] == id)) return;
  const int64_t c = (static_cast<int64_t>(blockIdx.y) * kThreads + threadIdx.x) * N;
  if (c >= C) return;
  double sum[N] = {};
  const int64_t last = end_of(keys, first, T);
#pragma unroll 8
  for (int64_t i = first; i < last; ++i) {
    float v[N];
    load(dy[tokens[i]] + c, v);
#pragma unroll
    for (int k = 0; k < N; ++k) sum[k] += v[k];
  }
  float* to = dweight[id] + c;
#pragma unroll
  for (int k = 0; k < N; ++k) {
    const auto value = static_cast<float>(sum[k] * scale);
    to[k] = accumulate ? to[k] + value : value;
  }
}

// ---- launchers ----------------------------------------------------------------------------------

// What the sort works in: keys and tokens, before and after.
struct Sorted {
  int32_t *keys_in, *tokens_in, *keys, *tokens;
};
Sorted sorted_in(int32_t* memory, int64_t T) {
  return {memory, memory + T, memory + 2 * T, memory + 3 * T};
}

// Bytes that the sort works in: more than it asks for at any number of tokens, and known without a
// GPU, which a plan has not.
int64_t sort_bytes(int64_t T) { return 16 * T + (int64_t{4} << 20); }

void sort(void* memory, const Sorted& s, int64_t T, int64_t V, cudaStream_t at) {
  auto bytes = static_cast<size_t>(sort_bytes(T));
  const int bits = std::bit_width(static_cast<uint64_t>(V));
  FT_CUDA(cub::DeviceRadixSort::SortPairs(memory, bytes, s.keys_in, s.keys, s.tokens_in, s.tokens,
                                          narrow<int>(T), 0, bits, at));
}

template <int N, class E>
void add_all(const ops::EmbeddingGrad& op, const Sorted& s, Stream stream) {
  const int64_t T = op.dy.rows(), C = op.dy.cols();
  const dim3 grid(static_cast<unsigned>(T),
                  static_cast<unsigned>(blocks_of<int64_t>(C / N, kThreads)));
  add_tokens<N><<<grid, kThreads, 0, stream_of(stream)>>>(
      rows_of<float>(op.dweight), rows_of<const E>(op.dy), s.keys, s.tokens, T, C,
      narrow<int32_t>(op.dweight.rows()), op.scale, op.grad == Grad::Accumulate);
  launched("add_tokens");
}

}  // namespace

template <>
void need(const ops::Embedding&, WorkspaceNeed&) {}

template <>
void run(const ops::Embedding& op, Stream stream) {
  with_float(op.y.dtype, [&](auto y) {
    with_float(op.weight.dtype, [&](auto w) {
      using Y = decltype(y);
      using W = decltype(w);
      launch_packs("embedding", {op.y.rows(), op.y.cols()}, are_aligned({op.y, op.weight}), stream,
                   LookUp<Y, W>{rows_of<Y>(op.y), rows_of<const W>(op.weight),
                                ptr<const int32_t>(op.ids), op.weight.rows(), op.scale});
    });
  });
}

template <>
void need(const ops::EmbeddingGrad& op, WorkspaceNeed& n) {
  const int64_t T = op.dy.rows();
  if (T == 0) return;
  need_workspace(n, 0, 4 * T * static_cast<int64_t>(sizeof(int32_t)));
  need_workspace(n, 1, sort_bytes(T));
}

template <>
void run(const ops::EmbeddingGrad& op, Stream stream) {
  const int64_t T = op.dy.rows(), C = op.dy.cols(), V = op.dweight.rows();
  const cudaStream_t at = stream_of(stream);
  if (op.grad == Grad::Overwrite)
    launch_packs("clear", extent_of({op.dweight}), is_aligned(op.dweight), stream,
                 ClearPack{rows_of<float>(op.dweight)});
  if (T == 0 || C == 0) return;
  const Sorted s = sorted_in(workspace<int32_t>(stream, 0, 4 * T), T);
  number_tokens<<<static_cast<unsigned>(blocks_of<int64_t>(T, kThreads)), kThreads, 0, at>>>(
      ptr<const int32_t>(op.ids), T, narrow<int32_t>(V), op.padding_id, s.keys_in, s.tokens_in);
  launched("number_tokens");
  sort(workspace(stream, 1, sort_bytes(T)), s, T, V, at);
  with_float(op.dy.dtype, [&](auto type) {
    using E = decltype(type);
    with_pack<4>(is_aligned(op.dy) && C % 4 == 0,
                 [&](auto pack) { add_all<decltype(pack)::value, E>(op, s, stream); });
  });
}

}  // namespace ft::cuda
