// Attention in bf16 on tensor cores: tiles in shared memory, their products by warps. Blocks have
// four warps; a warp owns kBands bands of 16 rows (queries or keys), and visits 64 columns at a time.
#pragma once

#include "cuda/attention_common.h"
#include "cuda/common/mma.h"

namespace ft::cuda {

constexpr int kWarps = 4;
constexpr int kMmaThreads = kWarps * kWarp;
constexpr int kVisit = 64;            // columns of a visit
constexpr int kBlocks = kVisit / 16;  // of 16 columns, the depth of a product
constexpr float kLog2E = 1.4426950408889634f, kLn2 = 0.6931471805599453f;

// Whether the kernels below take it: 16 bytes at a time, head dims up to 128. A head dim below the
// template's is filled up with zeros.
inline bool fits_mma(int dim) { return dim % 8 == 0 && dim <= 128; }
inline bool fits_mma(const Tensor& t) {
  return t.dtype == Dtype::BF16 && reinterpret_cast<uintptr_t>(t.data) % 16 == 0 &&
         t.stride[0] % 8 == 0;
}
template <class F>
void with_head_dim(int dim, F&& f) {
  if (dim <= 64) f(std::integral_constant<int, 64>{});
  else f(std::integral_constant<int, 128>{});
}

// True where they did the work.
bool attend_by_mma(const ops::Attention& op, Stream stream);
bool slopes_by_mma(const ops::AttentionGrad& op, Stream stream);
void need_mma(const ops::Attention& op, WorkspaceNeed& n);
void need_mma(const ops::AttentionGrad& op, WorkspaceNeed& n);

// ---- tiles in shared memory ---------------------------------------------------------------------
// Rows of D elements in chunks of eight. Chunks of row r are exchanged by r mod 8, so that eight
// rows of one column lie in different banks.

template <int D>
__device__ bfloat16* chunk_at(bfloat16* tile, int row, int chunk) {
  return tile + row * D + (chunk ^ (row & 7)) * 8;
}

// Begins to copy kRows rows, `count` of which exist, of `dim` channels.
template <int D, int kRows>
__device__ void fetch_rows(bfloat16* tile, Rows<const bfloat16> from, int count, int dim) {
  constexpr int kChunks = D / 8, kStep = kMmaThreads / kChunks;
  static_assert(kRows % kStep == 0 && kStep % 8 == 0);
  const int row = static_cast<int>(threadIdx.x) / kChunks,
            chunk = static_cast<int>(threadIdx.x) % kChunks;
  const bfloat16* at = from[row] + chunk * 8;
  bfloat16* to = chunk_at<D>(tile, row, chunk);
#pragma unroll
  for (int n = 0; n < kRows; n += kStep) {
    const bool there = row + n < count && chunk * 8 < dim;
    copy_16(to + n * D, there ? at : from.data, there);
    at += kStep * from.stride;
  }
}

// Rows of one head from row `first` of a sequence on.
__device__ inline Rows<const bfloat16> rows_from(Rows<const bfloat16> x, int64_t row, int head,
                                                 int dim) {
  return {x[row] + static_cast<int64_t>(head) * dim, x.stride};
}

// ---- fragments ----------------------------------------------------------------------------------

using Fragment = uint32_t[4];  // 16x16 of A, or two of B side by side: (x[0], x[1]), (x[2], x[3])

__device__ inline int lane_id() { return static_cast<int>(threadIdx.x) % kWarp; }
__device__ inline int warp_id() { return static_cast<int>(threadIdx.x) / kWarp; }

// Chunk 2 step + lane_chunk of row lane_row, `rows` (a multiple of 8) further down. Tiles lie at
// multiples of their rows' bytes, so an address's lower bits are the chunk's.
template <int D>
__device__ Shared lane_at(Shared tile, int lane_row, int lane_chunk, int rows, int step) {
  const int at = lane_row * D * 2 + (lane_chunk ^ (lane_row & 7)) * 16;
  return ((tile + at) ^ (32 * step)) + rows * D * 2;
}
// A: rows [row, row + 16), channels [16 step, 16 step + 16). `row` is a multiple of 16 here and below.
template <int D>
__device__ void load_a(Fragment& x, Shared tile, int row, int step) {
  const int lane = lane_id();
  load_matrices(x, lane_at<D>(tile, lane % 16, lane / 16, row, step));
}
// B of a product with the tile's transpose: its rows [row, row + 16) are columns, its channels the
// depth.
template <int D>
__device__ void load_b_transposed(Fragment& x, Shared tile, int row, int step) {
  const int lane = lane_id();
  load_matrices(x, lane_at<D>(tile, lane % 8 + lane / 16 * 8, lane / 8 % 2, row, step));
}
// B: its rows [row, row + 16) are the depth, its channels [16 block, 16 block + 16) columns.
template <int D>
__device__ void load_b(Fragment& x, Shared tile, int row, int block) {
  const int lane = lane_id();
  load_transposed_matrices(x, lane_at<D>(tile, lane % 16, lane / 16, row, block));
}

// Sums of 16 rows: n-th of 8 columns each. A lane has rows lane / 4 and lane / 4 + 8 (registers 0, 1
// and 2, 3) and columns 2 (lane % 4) and the next one.
template <int kEights>
using Band = float[kEights][4];

__device__ inline int lane_row(int half) { return lane_id() / 4 + 8 * half; }
__device__ inline int lane_column(int eight) { return 8 * eight + lane_id() % 4 * 2; }

template <int kEights>
__device__ void set_zero(Band<kEights>& x) {
#pragma unroll
  for (int n = 0; n < kEights; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) x[n][i] = 0;
}

// The 16 columns of block `block` as A of the next product.
template <int kEights>
__device__ void as_a(Fragment& x, const Band<kEights>& band, int block) {
#pragma unroll
  for (int n = 0; n < 2; ++n)
#pragma unroll
    for (int half = 0; half < 2; ++half)
      x[2 * n + half] = pack_bf16(band[2 * block + n][2 * half], band[2 * block + n][2 * half + 1]);
}

// A range of blocks of 16 columns.
struct Range {
  int from, to;
  __device__ bool has(int block) const { return from <= block && block < to; }
};

// sums += weights x, the weights' blocks being rows [row, row + 16 kDepth) of tile x. kSome: those in
// `range` only, others being 0.
template <int D, bool kSome, int kBands, int kDepth>
__device__ void add_weighted(Band<D / 8> (&sums)[kBands], const Band<2 * kDepth> (&weights)[kBands],
                             Shared x, int row, Range range) {
#pragma unroll
  for (int block = 0; block < kDepth; ++block) {
    if (kSome && !range.has(block)) continue;
    Fragment a[kBands];
#pragma unroll
    for (int m = 0; m < kBands; ++m) as_a(a[m], weights[m], block);
#pragma unroll
    for (int n = 0; n < D / 16; ++n) {
      Fragment b;
      load_b<D>(b, x, row + 16 * block, n);
#pragma unroll
      for (int m = 0; m < kBands; ++m) {
        add_product(sums[m][2 * n], a[m], b[0], b[1]);
        add_product(sums[m][2 * n + 1], a[m], b[2], b[3]);
      }
    }
  }
}

// A's fragments of a warp's rows: held in registers, or read from the tile whenever they are used.
template <int D, int kBands, bool kHeld>
struct Own {
  Shared tile;
  int row;
  Fragment held[kHeld ? D / 16 : 1][kBands];
  __device__ void load() {
    if constexpr (kHeld)
#pragma unroll
      for (int step = 0; step < D / 16; ++step)
#pragma unroll
        for (int m = 0; m < kBands; ++m) load_a<D>(held[step][m], tile, row + 16 * m, step);
  }
};

// scores = own x^T for rows [row, row + 16 kDepth) of tile x. kSome: blocks in `range` only.
template <bool kSome, int kDepth, int D, int kBands, bool kHeld>
__device__ void score(Band<2 * kDepth> (&scores)[kBands], Own<D, kBands, kHeld>& own, Shared x,
                      int row, Range range) {
#pragma unroll
  for (int m = 0; m < kBands; ++m) set_zero<2 * kDepth>(scores[m]);
#pragma unroll
  for (int step = 0; step < D / 16; ++step) {
    Fragment a[kBands];
#pragma unroll
    for (int m = 0; m < kBands; ++m) {
      if constexpr (kHeld) {
#pragma unroll
        for (int i = 0; i < 4; ++i) a[m][i] = own.held[step][m][i];
      } else {
        load_a<D>(a[m], own.tile, own.row + 16 * m, step);
      }
    }
#pragma unroll
    for (int block = 0; block < kDepth; ++block) {
      if (kSome && !range.has(block)) continue;
      Fragment b;
      load_b_transposed<D>(b, x, row + 16 * block, step);
#pragma unroll
      for (int m = 0; m < kBands; ++m) {
        add_product(scores[m][2 * block], a[m], b[0], b[1]);
        add_product(scores[m][2 * block + 1], a[m], b[2], b[3]);
      }
    }
  }
}

// ---- work ---------------------------------------------------------------------------------------

// Tiles of `rows` queries or keys of all sequences, numbered so that those that tend to see most
// come first: late queries, early keys.
struct JobList {
  bool of_queries;
  int rows, count;
  const int* order = nullptr;  // their numbers, most work first; null: as they are numbered
  JobList(const AttentionSizes& s, bool queries, int tile_rows)
      : of_queries(queries),
        rows(tile_rows),
        count(narrow<int>(static_cast<int64_t>(s.B) *
                          blocks_of(queries ? s.queries : s.keys, tile_rows))) {}
};
struct MmaJob {
  int first, b, head;  // first: row of the tile
};
__device__ inline MmaJob job_of(const AttentionSizes& s, const JobList& list, int at) {
  const int tile = at / s.B;
  return {(list.of_queries ? list.count / s.B - 1 - tile : tile) * list.rows, at % s.B, 0};
}
// That of the block-th block, where each tile has `heads` jobs.
__device__ inline MmaJob mma_job(const AttentionSizes& s, const JobList& list, int heads,
                                 int block) {
  const int at = block / heads;
  MmaJob job = job_of(s, list, list.order ? list.order[at] : at);
  job.head = block % heads;
  return job;
}
// Puts up to two lists in order of their work, where it is not done at once anyway. The numbers go
// to a workspace that need_order counts.
constexpr int kOrderSlot = 2;
void order_jobs(const AttentionSizes& s, const int32_t* docs, JobList** lists, int count, int heads,
                Stream stream);
inline void need_order(WorkspaceNeed& n, int64_t jobs) {
  need_workspace(n, kOrderSlot, jobs * static_cast<int64_t>(sizeof(int)));
}

// The queries [row, row + kRows) of a warp: keys that some of them see, and that all of them do.
// Neither, where the sequence has no such queries.
struct WarpQueries {
  Seen any, all;
  __device__ Range blocks(int k0) const {  // of the keys of a visit
    return {max(any.begin - k0, 0) / 16, blocks_of(min(any.end - k0, kVisit), 16)};
  }
  __device__ bool see_all(int k0) const { return all.begin <= k0 && k0 + kVisit <= all.end; }
};
__device__ inline WarpQueries warp_queries(const AttentionSizes& s, const int32_t* docs, int b,
                                           int row, int rows) {
  if (row >= s.queries) return {};
  const int last = min(row + rows, s.queries) - 1;
  const Seen first_seen = seen(s, docs, b, row), last_seen = seen(s, docs, b, last);
  return {{first_seen.begin, last_seen.end}, {last_seen.begin, first_seen.end}};
}

}  // namespace ft::cuda
