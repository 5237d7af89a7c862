// Attention on the GPU: the sizes of a call, which keys a query sees, and how blocks share the
// work. For .cu files.
#pragma once

#include "core/ops.h"
#include "cuda/common/launch.h"

namespace ft::cuda {

// Positions within a sequence are int: docs numbers tokens in 32 bits. Offsets into memory are
// int64_t.
struct AttentionSizes {
  int B = 1, heads = 1, kv_heads = 1, dim = 0;
  int queries = 0, keys = 0, offset = 0;  // of a sequence; query i sits on key offset + i
  float softmax_scale = 1, out_scale = 1;

  explicit AttentionSizes(const ops::AttentionInputs& in)
      : B(narrow<int>(in.sequences)),
        heads(narrow<int>(in.heads)),
        kv_heads(narrow<int>(in.kv_heads)),
        dim(narrow<int>(in.q.cols() / in.heads)),
        queries(narrow<int>(in.q.rows() / in.sequences)),
        keys(narrow<int>(in.k.rows() / in.sequences)),
        offset(keys - queries),
        softmax_scale(in.softmax_scale),
        out_scale(in.out_scale) {}

  bool empty() const { return queries == 0 || dim == 0; }
  int64_t tokens() const { return static_cast<int64_t>(B) * queries; }
  __host__ __device__ int group() const { return heads / kv_heads; }
  // The first row of a sequence in tensors of queries and of keys.
  __device__ int64_t query_row(int b) const { return static_cast<int64_t>(b) * queries; }
  __device__ int64_t key_row(int b) const { return static_cast<int64_t>(b) * keys; }
};

// Keys [begin, end) of its sequence.
struct Seen {
  int begin = 0, end = 0;
  __device__ bool holds(int key) const { return (begin <= key) & (key < end); }
};
// Those that query i of sequence b sees; none past the last query. Both ends grow with i.
__device__ inline Seen seen(const AttentionSizes& s, const int32_t* docs, int b, int i) {
  if (i >= s.queries) return {};
  const int64_t start = s.offset + docs[s.query_row(b) + i] - s.query_row(b);
  return {static_cast<int>(start > 0 ? start : 0), s.offset + i + 1};
}

// Tiles of queries that see any of keys [k0, k0 + size): [first, end). The whole block calls it.
struct Tiles {
  int first = 0, end = 0;
};
template <int kQueries>
__device__ Tiles tiles_that_see(const AttentionSizes& s, const int32_t* docs, int b, int k0,
                                int size) {
  const int first = (k0 > s.offset ? k0 - s.offset : 0) / kQueries;
  const int all = blocks_of(s.queries, kQueries);
  Tiles t{first, first};
  for (int tile = first; tile < all; tile += static_cast<int>(blockDim.x)) {
    const int mine = tile + static_cast<int>(threadIdx.x);
    const bool sees = mine < all && seen(s, docs, b, mine * kQueries).begin < k0 + size;
    const int count = __syncthreads_count(sees);
    t.end += count;
    if (count < static_cast<int>(blockDim.x)) break;  // documents only move on
  }
  return t;
}

}  // namespace ft::cuda
