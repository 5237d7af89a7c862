// Causal attention in bf16 on tensor cores (Dao 2023): formulas as in attention.cu. A warp owns 32
// queries and keeps their scores, weights and sums in registers; keys and values come in tiles of
// 64, the next one while this one is worked on.
#include "cuda/attention_mma.h"

namespace ft::cuda {

namespace {

// ---- kernels ------------------------------------------------------------------------------------

struct ForwardArgs {
  Rows<const bfloat16> q, k, v;
  const int32_t* docs;
  Rows<bfloat16> o;
  float* lse;
};

template <int D>
struct ForwardTiles {
  static constexpr int kBands = 2, kRows = kWarps * kBands * 16;
  static constexpr int kResident = 2;     // blocks of a multiprocessor
  static constexpr bool kHeld = D <= 64;  // queries lie in registers
  bfloat16 q[kRows * D], k[2][kVisit * D], v[2][kVisit * D];
};

// What a warp's rows have gathered so far. A lane's first row sees keys before `end`, each row below
// one more; high is of the scores before softmax_scale, sum a lane's part.
template <int D>
struct Gathered {
  static constexpr int kBands = ForwardTiles<D>::kBands;
  int begin[kBands][2], end;
  float high[kBands][2], sum[kBands][2];
  Band<D / 8> o[kBands];
};

__device__ inline float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}
__device__ inline float quad_sum(float x) {
  x += __shfl_xor_sync(0xffffffffu, x, 1);
  return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

// Scores that a band's rows do not see; begin and end count from the tile's first key on.
__device__ inline void hide(Band<2 * kBlocks>& x, int begin, int begin_8, int end) {
#pragma unroll
  for (int n = 0; n < 2 * kBlocks; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int key = lane_column(n) + i % 2;
      if (key < (i < 2 ? begin : begin_8) || key >= (i < 2 ? end : end + 8)) x[n][i] = -INFINITY;
    }
}

// Scores of a band become weights; what was gathered shrinks to the new maximum.
template <int D>
__device__ void rescale(Band<2 * kBlocks>& x, Band<D / 8>& o, float (&highs)[2], float (&sums)[2],
                        float scale) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float high = highs[half], sum = 0;
#pragma unroll
    for (int n = 0; n < 2 * kBlocks; ++n)
      high = fmaxf(high, fmaxf(x[n][2 * half], x[n][2 * half + 1]));
    high = quad_max(high);
    const float from = high == -INFINITY ? 0.0f : high * scale;  // nothing seen yet
    const float shrink = exp2_fast(highs[half] * scale - from);
    highs[half] = high;
#pragma unroll
    for (int n = 0; n < 2 * kBlocks; ++n)
#pragma unroll
      for (int i = 2 * half; i < 2 * half + 2; ++i) {
        x[n][i] = exp2_fast(fmaf(x[n][i], scale, -from));
        sum += x[n][i];
      }
    sums[half] = sums[half] * shrink + sum;
#pragma unroll
    for (int n = 0; n < D / 8; ++n) o[n][2 * half] *= shrink, o[n][2 * half + 1] *= shrink;
  }
}

// kSome: not all of the tile's keys are seen by all of the warp's queries.
template <int D, bool kSome, class Q>
__device__ void visit(Gathered<D>& t, Q& q, Shared k, Shared v, float scale, int k0, Range range) {
  constexpr int kBands = ForwardTiles<D>::kBands;
  Band<2 * kBlocks> x[kBands];
  score<kSome, kBlocks>(x, q, k, 0, range);
#pragma unroll
  for (int m = 0; m < kBands; ++m) {
    if (kSome) hide(x[m], t.begin[m][0] - k0, t.begin[m][1] - k0, t.end + 16 * m - k0);
    rescale<D>(x[m], t.o[m], t.high[m], t.sum[m], scale);
  }
  add_weighted<D, kSome, kBands, kBlocks>(t.o, x, v, 0, range);
}

template <int D>
__device__ void store(const AttentionSizes& s, const ForwardArgs& a, Gathered<D>& t,
                      const MmaJob& job, int row, float scale) {
#pragma unroll
  for (int m = 0; m < t.kBands; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float sum = quad_sum(t.sum[m][half]);
      const int i = row + 16 * m + lane_row(half);
      if (i >= s.queries) continue;
      const int64_t token = s.query_row(job.b) + i;
      if (lane_id() % 4 == 0)
        a.lse[job.head * (s.B * static_cast<int64_t>(s.queries)) + token] =
            t.high[m][half] * scale * kLn2 + logf(sum);
      const float out = s.out_scale / sum;
      bfloat16* o = a.o[token] + static_cast<int64_t>(job.head) * s.dim;
#pragma unroll
      for (int n = 0; n < D / 8; ++n)
        if (lane_column(n) < s.dim)
          *reinterpret_cast<uint32_t*>(o + lane_column(n)) =
              pack_bf16(out * t.o[m][n][2 * half], out * t.o[m][n][2 * half + 1]);
    }
}

// The maximum is taken of products: where softmax_scale is negative, so are the queries.
template <int D>
__device__ void negate(bfloat16* tile) {
  for (int at = static_cast<int>(threadIdx.x); at < ForwardTiles<D>::kRows * D; at += kMmaThreads)
    tile[at] = -tile[at];
}

// A block owns a tile of queries of one head.
template <int D>
__global__ void __launch_bounds__(kMmaThreads, ForwardTiles<D>::kResident)
    attend(AttentionSizes s, JobList list, ForwardArgs a) {
  extern __shared__ __align__(1024) unsigned char bytes[];
  using Memory = ForwardTiles<D>;
  auto& memory = *reinterpret_cast<Memory*>(bytes);
  const MmaJob job = mma_job(s, list, s.heads, static_cast<int>(blockIdx.x));
  const int q0 = job.first;
  const auto fetch = [&](int k0) {
    const int stage = k0 / kVisit % 2, kv = job.head / s.group();
    const int64_t row = s.key_row(job.b) + k0;
    fetch_rows<D, kVisit>(memory.k[stage], rows_from(a.k, row, kv, s.dim), s.keys - k0, s.dim);
    fetch_rows<D, kVisit>(memory.v[stage], rows_from(a.v, row, kv, s.dim), s.keys - k0, s.dim);
    close_copies();
  };
  const int first = seen(s, a.docs, job.b, q0).begin / kVisit * kVisit,
            past = s.offset + min(s.queries, q0 + Memory::kRows);
  fetch_rows<D, Memory::kRows>(memory.q, rows_from(a.q, s.query_row(job.b) + q0, job.head, s.dim),
                               s.queries - q0, s.dim);
  fetch(first);

  const int row = q0 + 16 * Memory::kBands * warp_id();  // the warp's first
  const WarpQueries mine = warp_queries(s, a.docs, job.b, row, 16 * Memory::kBands);
  Gathered<D> t;
  t.end = s.offset + row + lane_row(0) + 1;
#pragma unroll
  for (int m = 0; m < Memory::kBands; ++m) {
    set_zero<D / 8>(t.o[m]);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      t.begin[m][half] = seen(s, a.docs, job.b, row + 16 * m + lane_row(half)).begin;
      t.high[m][half] = -INFINITY, t.sum[m][half] = 0;
    }
  }
  const float scale = fmaxf(fabsf(s.softmax_scale) * kLog2E, 1e-30f);
  Own<D, Memory::kBands, Memory::kHeld> q{shared(memory.q), row - q0};
  for (int k0 = first; k0 < past; k0 += kVisit) {
    await_copies<0>();
    __syncthreads();
    if (k0 + kVisit < past) fetch(k0 + kVisit);
    if (k0 == first) {
      if (s.softmax_scale < 0) negate<D>(memory.q), __syncthreads();
      q.load();
    }
    const Shared k = shared(memory.k[k0 / kVisit % 2]), v = shared(memory.v[k0 / kVisit % 2]);
    const Range range = mine.blocks(k0);
    if (mine.see_all(k0)) visit<D, false>(t, q, k, v, scale, k0, range);
    else if (range.from < range.to) visit<D, true>(t, q, k, v, scale, k0, range);
  }
  store<D>(s, a, t, job, row, scale);
}

// ---- launchers ----------------------------------------------------------------------------------

}  // namespace

void need_mma(const ops::Attention& op, WorkspaceNeed& n) {
  const AttentionSizes s(op.in);
  if (op.in.q.dtype == Dtype::BF16 && fits_mma(s.dim))
    with_head_dim(s.dim,
                  [&](auto d) { need_order(n, JobList(s, true, ForwardTiles<d>::kRows).count); });
}

bool attend_by_mma(const ops::Attention& op, Stream stream) {
  const AttentionSizes s(op.in);
  if (!fits_mma(s.dim)) return false;
  for (const Tensor& t : {Tensor(op.in.q), Tensor(op.in.k), Tensor(op.in.v), Tensor(op.o)})
    if (!fits_mma(t)) return false;
  const ForwardArgs args{rows_of<const bfloat16>(op.in.q), rows_of<const bfloat16>(op.in.k),
                         rows_of<const bfloat16>(op.in.v), ptr<const int32_t>(op.in.docs),
                         rows_of<bfloat16>(op.o),          ptr<float>(op.lse)};
  with_head_dim(s.dim, [&](auto d) {
    constexpr int D = d;
    JobList list(s, true, ForwardTiles<D>::kRows), *lists[] = {&list};
    order_jobs(s, args.docs, lists, 1, s.heads, stream);
    const auto jobs = narrow<int>(static_cast<int64_t>(list.count) * s.heads);
    allow_shared(attend<D>, sizeof(ForwardTiles<D>));
    attend<D><<<jobs, kMmaThreads, sizeof(ForwardTiles<D>), stream_of(stream)>>>(s, list, args);
    launched("attention");
  });
  return true;
}

}  // namespace ft::cuda
