// Tiles of one head, widened to fp32 and padded with zeros: a tile of kTileRows queries meets tiles
// of kTileRows keys.
#pragma once

#include "cpu/common.h"
#include "cpu/gemm/micro_kernels.h"

#include <array>

namespace ft::cpu {

inline constexpr int64_t kTileRows = 64;
inline constexpr int64_t kBlocks =
    kTileRows / 4;  // the panels of micro_kernels.h are four rows high
inline const int64_t kTileStride = tile_stride(kTileRows);  // of scores and of transposed tiles

struct AttentionSizes {
  int64_t B, heads, kv_heads, dim, queries, keys, offset;  // queries, keys: of a sequence
  int64_t wide, stride;  // of a row of a tile: padded, and with gaps
  int64_t query_tiles, key_tiles;

  explicit AttentionSizes(const ops::AttentionInputs& in)
      : B(in.sequences), heads(in.heads), kv_heads(in.kv_heads) {
    dim = in.q.cols() / heads, queries = in.q.rows() / B, keys = in.k.rows() / B,
    offset = keys - queries;
    wide = padded(dim), stride = tile_stride(dim);
    query_tiles = blocks_of(queries, kTileRows), key_tiles = blocks_of(keys, kTileRows);
  }

  int64_t kv_of(int64_t head) const { return head / (heads / kv_heads); }
  int64_t tile() const { return kTileRows * stride; }             // floats of a tile of rows
  int64_t transposed_tile() const { return wide * kTileStride; }  // floats of a tile of columns
};

// Rows [begin, begin + n) of one head's columns, times scale.
inline void load_tile(const AttentionSizes& s, const Tensor& t, int64_t head, int64_t begin,
                      int64_t n, float scale, float* to) {
  const Tensor columns = t.columns(head * s.dim, (head + 1) * s.dim);
  std::fill_n(to + n * s.stride, (kTileRows - n) * s.stride, 0.0f);
  for (int64_t i = 0; i < n; ++i) {
    float* x = to + i * s.stride;
    load(columns, begin + i, s.dim, x);
    for (int64_t d = 0; d < s.dim; ++d) x[d] *= scale;
    std::fill(x + s.dim, x + s.stride, 0.0f);
  }
}

// The tile `tile` of a key head's keys (or values), as rows and, unless null, as columns.
inline void load_keys(const AttentionSizes& s, const Tensor& t, int64_t b, int64_t kv, int64_t tile,
                      float* rows, float* columns) {
  const int64_t k0 = tile * kTileRows;
  load_tile(s, t, kv, b * s.keys + k0, std::min(kTileRows, s.keys - k0), 1.0f, rows);
  if (columns) transpose(rows, s.stride, kTileRows, s.wide, columns, kTileStride);
}

// Which scores of a pair of tiles exist: row i sees keys [from[i], to[i]) of the tile. The ranges
// of four rows and of four columns bound the products, so that causal and document masks cost no
// work beyond their blocks.
struct Reach {
  std::array<int64_t, kTileRows> from, to;
  std::array<int64_t, kBlocks> row_from, row_to;        // keys that four rows see
  std::array<int64_t, kBlocks> column_from, column_to;  // rows that see any of four keys
};

// Queries [q0, q0 + n) and keys [k0, k0 + m) of a sequence. The numbers of docs grow along it.
inline Reach reach(const AttentionSizes& s, const int32_t* docs, int64_t sequence, int64_t q0,
                   int64_t n, int64_t k0, int64_t m) {
  Reach r;
  r.from.fill(0), r.to.fill(0);
  for (int64_t i = 0; i < n; ++i) {
    const int64_t start = s.offset + docs[sequence * s.queries + q0 + i] - sequence * s.queries;
    r.from[i] = std::clamp<int64_t>(start - k0, 0, m);
    r.to[i] = std::clamp<int64_t>(s.offset + q0 + i + 1 - k0, r.from[i], m);
  }
  r.column_from.fill(kTileRows), r.column_to.fill(0);
  for (int64_t block = 0; block < kBlocks; ++block) {
    int64_t from = kTileRows, to = 0;
    for (int64_t i = 4 * block; i < 4 * block + 4; ++i) {
      if (r.from[i] == r.to[i]) continue;
      from = std::min(from, r.from[i]), to = std::max(to, r.to[i]);
    }
    r.row_from[block] = std::min(from, to), r.row_to[block] = to;
    for (int64_t c = from / 4; c < blocks_of(to, 4); ++c) {
      r.column_from[c] = std::min(r.column_from[c], 4 * block);
      r.column_to[c] = 4 * block + 4;
    }
  }
  return r;
}

// The first key that queries from q0 on see.
inline int64_t first_key(const AttentionSizes& s, const int32_t* docs, int64_t sequence,
                         int64_t q0) {
  return std::max<int64_t>(0, s.offset + docs[sequence * s.queries + q0] - sequence * s.queries);
}

// f(first row, rows, from, to) for each run of blocks of four rows that share their range.
template <class F>
void for_runs_of(const std::array<int64_t, kBlocks>& from, const std::array<int64_t, kBlocks>& to,
                 F&& f) {
  for (int64_t block = 0, end; block < kBlocks; block = end) {
    end = block + 1;
    while (end < kBlocks && from[end] == from[block] && to[end] == to[block]) ++end;
    if (from[block] < to[block]) f(4 * block, 4 * (end - block), from[block], to[block]);
  }
}

// scores = a b where they exist (to panels of columns); a: tile of rows, b: transposed tile.
inline void scores_of(const AttentionSizes& s, const Reach& r, const float* a, const float* b,
                      float* scores) {
  std::array<int64_t, kBlocks> first, last;
  for (int64_t block = 0; block < kBlocks; ++block) {
    const bool any = r.row_from[block] < r.row_to[block];
    first[block] = any ? r.row_from[block] / kPanel * kPanel : 0;
    last[block] = any ? padded(r.row_to[block]) : 0;
  }
  for_runs_of(first, last, [&](int64_t i, int64_t rows, int64_t from, int64_t to) {
    matmul(rows, to - from, s.wide, {a + i * s.stride, s.stride, 1}, b + from, kTileStride,
           scores + i * kTileStride + from, kTileStride, false);
  });
}

// to[i] += sum_j weights[i, j] b[j]: a tile of rows from the rows of b
inline void add_over_keys(const AttentionSizes& s, const Reach& r, const float* weights,
                          const float* b, float* to) {
  for_runs_of(r.row_from, r.row_to, [&](int64_t i, int64_t rows, int64_t from, int64_t end) {
    matmul(rows, s.wide, end - from, {weights + i * kTileStride + from, kTileStride, 1},
           b + from * s.stride, s.stride, to + i * s.stride, s.stride, true);
  });
}

// to[j] += sum_i weights[i, j] b[i]: the transposed product
inline void add_over_queries(const AttentionSizes& s, const Reach& r, const float* weights,
                             const float* b, float* to) {
  for_runs_of(r.column_from, r.column_to, [&](int64_t j, int64_t rows, int64_t from, int64_t end) {
    matmul(rows, s.wide, end - from, {weights + from * kTileStride + j, 1, kTileStride},
           b + from * s.stride, s.stride, to + j * s.stride, s.stride, true);
  });
}

}  // namespace ft::cpu
