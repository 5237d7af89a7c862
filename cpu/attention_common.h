// Tiles of one head, widened to fp32. A tile of kTileRows queries meets tiles of kTileRows keys.
#pragma once

#include "cpu/common.h"

#include <vector>

namespace ft::cpu {

inline constexpr int64_t kTileRows = 64;

struct AttentionSizes {
  int64_t B, heads, kv_heads, dim, queries, keys, offset;   // queries, keys: of a sequence
  template <class Op>
  explicit AttentionSizes(const Op& op)
      : B(op.sequences), heads(op.heads), kv_heads(op.kv_heads), dim(op.q.cols() / op.heads),
        queries(op.q.rows() / B), keys(op.k.rows() / B), offset(keys - queries) {
    FT_CHECK(heads % kv_heads == 0 && keys >= queries, "attention: {} heads over {} key heads, {} queries, {} keys",
             heads, kv_heads, queries, keys);
  }
  int64_t kv_of(int64_t head) const { return head / (heads / kv_heads); }
};

// Rows [begin, begin + n) of one head's columns, as [n, dim] and, where asked for, transposed [dim, kTileRows].
inline void load_tile(const Tensor& t, int64_t head, int64_t dim, int64_t begin, int64_t n, float* to,
                      float* transposed = nullptr) {
  const Tensor columns = t.columns(head * dim, (head + 1) * dim);
  for (int64_t i = 0; i < n; ++i) load(columns, begin + i, dim, to + i * dim);
  for (int64_t d = 0; transposed && d < dim; ++d)
    for (int64_t i = 0; i < n; ++i) transposed[d * kTileRows + i] = to[i * dim + d];
}

// The keys a query sees, [first, last], in keys of its sequence.
struct Seen {
  int64_t first, last;
};
inline Seen keys_of(const AttentionSizes& s, const int32_t* docs, int64_t sequence, int64_t query) {
  const int64_t start = docs[sequence * s.queries + query] - sequence * s.queries;
  return {std::max<int64_t>(0, s.offset + start), s.offset + query};
}

// scores[j] = scale * q . k_j for j in [from, to] of a transposed tile.
inline void scores_of(const float* q, const float* kt, int64_t dim, float scale, int64_t from, int64_t to,
                      float* scores) {
  for (int64_t j = from; j <= to; ++j) scores[j] = 0;
  for (int64_t d = 0; d < dim; ++d) {
    const float qd = q[d] * scale, *kd = kt + d * kTileRows;
#pragma omp simd
    for (int64_t j = from; j <= to; ++j) scores[j] += qd * kd[j];
  }
}

}  // namespace ft::cpu
