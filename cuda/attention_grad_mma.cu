// Attention backward in bf16 on tensor cores (Dao 2023): formulas as in attention_grad.cu. Blocks of
// one kernel own queries, those of the other keys; scores are formed in both, so that nothing is
// summed in an order of chance.
#include "cuda/attention_mma.h"

namespace ft::cuda {

namespace {

constexpr int kDeltaSlot = 0, kPartSlot = 1;

struct BackwardArgs {
  Rows<const bfloat16> q, k, v, o, d_o;
  const int32_t* docs;
  const float* lse;
  float* delta;  // [heads, T]: D
  Rows<bfloat16> dq, dk, dv;
  int parts;                   // blocks that share the query heads of a key head
  float *dk_parts, *dv_parts;  // [kv_heads parts, Tk, dim]: theirs, where they are several
};

// ---- kernels ------------------------------------------------------------------------------------

// Eight lanes take a token of one head.
constexpr int kDeltaThreads = 256, kDeltaLanes = 8;
__global__ void __launch_bounds__(kDeltaThreads) row_deltas(AttentionSizes s, BackwardArgs a) {
  const int64_t T = s.query_row(s.B);
  const int64_t at = (static_cast<int64_t>(blockIdx.x) * kDeltaThreads + threadIdx.x) / kDeltaLanes;
  const int64_t t = at / s.heads, head = at % s.heads;
  const int lane = static_cast<int>(threadIdx.x) % kDeltaLanes;
  const bool there = t < T;
  float sum = 0;
  for (int d = lane * 8; there && d < s.dim; d += kDeltaLanes * 8) {
    const auto o = *reinterpret_cast<const uint4*>(a.o[t] + head * s.dim + d);
    const auto g = *reinterpret_cast<const uint4*>(a.d_o[t] + head * s.dim + d);
    const uint32_t os[4] = {o.x, o.y, o.z, o.w}, gs[4] = {g.x, g.y, g.z, g.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      sum = fmaf(__uint_as_float(os[i] << 16), __uint_as_float(gs[i] << 16), sum);
      sum = fmaf(__uint_as_float(os[i] & 0xffff0000u), __uint_as_float(gs[i] & 0xffff0000u), sum);
    }
  }
#pragma unroll
  for (int lanes = kDeltaLanes / 2; lanes > 0; lanes /= 2)
    sum += __shfl_xor_sync(0xffffffffu, sum, lanes);
  if (lane == 0 && there) a.delta[head * T + t] = sum;
}

// Products q.k and do.v become P and dS.
__device__ inline void slope(const AttentionSizes& s, float lse_2, float delta, bool there,
                             float& p, float& ds) {
  p = there ? exp2_fast(fmaf(s.softmax_scale * kLog2E, p, -lse_2)) : 0.0f;
  ds = there ? p * fmaf(s.out_scale, ds, -delta) : 0.0f;
}

// ---- of queries

template <int D>
struct QueryTiles {
  static constexpr int kBands = D <= 64 ? 2 : 1, kRows = kWarps * kBands * 16;
  static constexpr int kDepth = 2;  // blocks of 16 keys at once
  bfloat16 q[kRows * D], d_o[kRows * D], k[2][kVisit * D], v[2][kVisit * D];
};

template <int D>
struct QuerySums {
  static constexpr int kBands = QueryTiles<D>::kBands;
  int begin[kBands][2], end;  // as in forward
  float lse_2[kBands][2], delta[kBands][2];
  Band<D / 8> dq[kBands];
};

template <int D>
__device__ void begin_queries(const AttentionSizes& s, const BackwardArgs& a, const MmaJob& job,
                              int row, QuerySums<D>& t) {
  t.end = s.offset + row + lane_row(0) + 1;
#pragma unroll
  for (int m = 0; m < t.kBands; ++m) {
    set_zero<D / 8>(t.dq[m]);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int i = row + 16 * m + lane_row(half);
      const int64_t at = job.head * s.query_row(s.B) + s.query_row(job.b) + i;
      const bool there = i < s.queries;
      t.begin[m][half] = seen(s, a.docs, job.b, i).begin;
      t.lse_2[m][half] = there ? a.lse[at] * kLog2E : 0.0f;
      t.delta[m][half] = there ? a.delta[at] : 0.0f;
    }
  }
}

// kSome: not all of the tile's keys are seen by all of the warp's queries.
template <int D, bool kSome, class Q>
__device__ void visit_keys(const AttentionSizes& s, QuerySums<D>& t, Q& q, Q& d_o, bfloat16* k,
                           bfloat16* v, int k0, const Range& range) {
  constexpr int kDepth = QueryTiles<D>::kDepth, kBands = QueryTiles<D>::kBands;
#pragma unroll
  for (int part = 0; part < kBlocks; part += kDepth) {
    const Range here{range.from - part, range.to - part};
    if (kSome && (here.from >= kDepth || here.to <= 0)) continue;
    Band<2 * kDepth> p[kBands], ds[kBands];
    score<kSome, kDepth>(p, q, k, 16 * part, here);
    score<kSome, kDepth>(ds, d_o, v, 16 * part, here);
#pragma unroll
    for (int m = 0; m < kBands; ++m)
#pragma unroll
      for (int n = 0; n < 2 * kDepth; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int half = i / 2, key = k0 + 16 * part + lane_column(n) + i % 2;
          const bool there = !kSome || (t.begin[m][half] <= key && key < t.end + 16 * m + 8 * half);
          slope(s, t.lse_2[m][half], t.delta[m][half], there, p[m][n][i], ds[m][n][i]);
        }
    add_weighted<D, kSome, kBands, kDepth>(t.dq, ds, k, 16 * part, here);
  }
}

// Of a band's rows, `first` being the warp's first row and `count` those that exist from there on.
template <int D>
__device__ void store_band(Rows<bfloat16> out, const Band<D / 8>& band, int row, int count, int dim,
                           float scale) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int i = row + lane_row(half);
    if (i >= count) continue;
#pragma unroll
    for (int n = 0; n < D / 8; ++n)
      if (lane_column(n) < dim)
        *reinterpret_cast<uint32_t*>(out[i] + lane_column(n)) =
            pack_bf16(scale * band[n][2 * half], scale * band[n][2 * half + 1]);
  }
}

// A block owns a tile of queries of one head.
template <int D>
__global__ void __launch_bounds__(kMmaThreads, 2) query_slopes(AttentionSizes s, BackwardArgs a) {
  extern __shared__ __align__(128) unsigned char bytes[];
  using Memory = QueryTiles<D>;
  auto& memory = *reinterpret_cast<Memory*>(bytes);
  MmaJob job = mma_job(s, s.heads);
  job.tile = blocks_of(s.queries, Memory::kRows) - 1 - job.tile;
  const int q0 = job.tile * Memory::kRows, count = s.queries - q0;
  const int64_t token = s.query_row(job.b) + q0;
  const auto fetch = [&](int k0) {
    const int stage = k0 / kVisit % 2, kv = job.head / s.group();
    const int64_t row = s.key_row(job.b) + k0;
    fetch_rows<D, kVisit>(memory.k[stage], rows_from(a.k, row, kv, s.dim), s.keys - k0, s.dim);
    fetch_rows<D, kVisit>(memory.v[stage], rows_from(a.v, row, kv, s.dim), s.keys - k0, s.dim);
    close_copies();
  };
  const int first = seen(s, a.docs, job.b, q0).begin / kVisit * kVisit;
  const int past = s.offset + min(s.queries, q0 + Memory::kRows);
  fetch_rows<D, Memory::kRows>(memory.q, rows_from(a.q, token, job.head, s.dim), count, s.dim);
  fetch_rows<D, Memory::kRows>(memory.d_o, rows_from(a.d_o, token, job.head, s.dim), count, s.dim);
  fetch(first);
  const int row = 16 * Memory::kBands * warp_id();  // the warp's first in the tile
  const WarpQueries mine = warp_queries(s, a.docs, job.b, q0 + row, 16 * Memory::kBands);
  QuerySums<D> t;
  begin_queries(s, a, job, q0 + row, t);
  Own<D, Memory::kBands, true> q{memory.q, row}, d_o{memory.d_o, row};
  for (int k0 = first; k0 < past; k0 += kVisit) {
    await_copies<0>();
    __syncthreads();
    if (k0 + kVisit < past) fetch(k0 + kVisit);
    if (k0 == first) q.load(), d_o.load();
    bfloat16 *k = memory.k[k0 / kVisit % 2], *v = memory.v[k0 / kVisit % 2];
    const Range range = mine.blocks(k0);
    if (mine.see_all(k0)) visit_keys<D, false>(s, t, q, d_o, k, v, k0, range);
    else if (range.from < range.to) visit_keys<D, true>(s, t, q, d_o, k, v, k0, range);
  }
  const Rows<bfloat16> out{a.dq[token] + static_cast<int64_t>(job.head) * s.dim, a.dq.stride};
#pragma unroll
  for (int m = 0; m < Memory::kBands; ++m)
    store_band<D>(out, t.dq[m], row + 16 * m, count, s.dim, s.softmax_scale);
}

// ---- of keys

template <int D>
struct KeyTiles {
  static constexpr int kBands = D <= 64 ? 2 : 1, kRows = kWarps * kBands * 16;
  static constexpr int kDepth = 2;  // blocks of 16 queries at once
  bfloat16 k[kRows * D], v[kRows * D], q[2][kVisit * D], d_o[2][kVisit * D];
  float lse[2][kVisit], delta[2][kVisit];
  int32_t docs[2][kVisit];
};

template <int D>
struct KeySums {
  static constexpr int kBands = KeyTiles<D>::kBands;
  Band<D / 8> dk[kBands], dv[kBands];
};

// A tile of queries that a block visits, as a warp with keys [key, end) sees it. Query i of the tile
// sees keys from shift + docs[i] to last + i.
struct QueryVisit {
  bfloat16 *q, *d_o;
  const float *lse, *delta;
  const int32_t* docs;
  int shift, last, count, key, end;
  __device__ Range blocks() const {
    const int from = max(key - last, 0) / 16;
    int to = 0;
#pragma unroll
    for (int block = 0; block < kBlocks; ++block)
      if (16 * block < count && shift + docs[16 * block] < end) to = block + 1;
    return {from, to};
  }
  __device__ bool sees_all() const {
    return count >= kVisit && shift + docs[kVisit - 1] <= key && end - 1 <= last;
  }
  __device__ bool sees(int i, int at) const {
    return i < count && shift + docs[i] <= at && at <= last + i;
  }
};

// kSome: not all of the warp's keys are seen by all of the tile's queries.
template <int D, bool kSome, class K>
__device__ void visit_queries(const AttentionSizes& s, KeySums<D>& t, K& k, K& v,
                              const QueryVisit& u, const Range& range) {
  constexpr int kDepth = KeyTiles<D>::kDepth, kBands = KeyTiles<D>::kBands;
#pragma unroll
  for (int part = 0; part < kBlocks; part += kDepth) {
    const Range here{range.from - part, range.to - part};
    if (kSome && (here.from >= kDepth || here.to <= 0)) continue;
    Band<2 * kDepth> p[kBands], ds[kBands];
    score<kSome, kDepth>(p, k, u.q, 16 * part, here);
    score<kSome, kDepth>(ds, v, u.d_o, 16 * part, here);
#pragma unroll
    for (int n = 0; n < 2 * kDepth; ++n)
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        const int i = 16 * part + lane_column(n) + c;
        const float lse_2 = u.lse[i] * kLog2E, delta = u.delta[i];
#pragma unroll
        for (int m = 0; m < kBands; ++m)
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            const bool there = !kSome || u.sees(i, u.key + 16 * m + lane_row(half));
            slope(s, lse_2, delta, there, p[m][n][2 * half + c], ds[m][n][2 * half + c]);
          }
      }
    add_weighted<D, kSome, kBands, kDepth>(t.dv, p, u.d_o, 16 * part, here);
    add_weighted<D, kSome, kBands, kDepth>(t.dk, ds, u.q, 16 * part, here);
  }
}

// Begins to copy a visit's queries, from q0 on, of one head.
template <int D>
__device__ void fetch_queries(const AttentionSizes& s, const BackwardArgs& a, KeyTiles<D>& memory,
                              int stage, int b, int head, int q0) {
  const int64_t token = s.query_row(b) + q0;
  const int count = s.queries - q0;
  fetch_rows<D, kVisit>(memory.q[stage], rows_from(a.q, token, head, s.dim), count, s.dim);
  fetch_rows<D, kVisit>(memory.d_o[stage], rows_from(a.d_o, token, head, s.dim), count, s.dim);
  static_assert(kMmaThreads == 2 * kVisit);
  const int i = static_cast<int>(threadIdx.x) % kVisit;
  const bool there = i < count;
  const int64_t at = head * s.query_row(s.B) + token + (there ? i : 0);
  if (static_cast<int>(threadIdx.x) < kVisit) {
    copy_4(&memory.lse[stage][i], a.lse + at, there);
    copy_4(&memory.docs[stage][i], a.docs + token + (there ? i : 0), there);
  } else {
    copy_4(&memory.delta[stage][i], a.delta + at, there);
  }
  close_copies();
}

// A block's keys: part p of the sums of key head kv, in fp32, or the sums themselves.
template <int D>
__device__ void store_keys(const AttentionSizes& s, const BackwardArgs& a, const KeySums<D>& t,
                           const MmaJob& job, int row) {
  const int64_t begin = s.key_row(job.b) + row;
  const int count = s.keys - row, column = job.head / a.parts * s.dim;
#pragma unroll
  for (int m = 0; m < t.kBands; ++m) {
    if (a.parts == 1) {
      store_band<D>({a.dk[begin] + column, a.dk.stride}, t.dk[m], 16 * m, count, s.dim,
                    s.softmax_scale);
      store_band<D>({a.dv[begin] + column, a.dv.stride}, t.dv[m], 16 * m, count, s.dim,
                    s.out_scale);
      continue;
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int i = 16 * m + lane_row(half);
      if (i >= count) continue;
      const int64_t at = (job.head * s.key_row(s.B) + begin + i) * s.dim;
#pragma unroll
      for (int n = 0; n < D / 8; ++n) {
        if (lane_column(n) >= s.dim) continue;
        const float *k = &t.dk[m][n][2 * half], *v = &t.dv[m][n][2 * half];
        *reinterpret_cast<float2*>(a.dk_parts + at + lane_column(n)) =
            make_float2(s.softmax_scale * k[0], s.softmax_scale * k[1]);
        *reinterpret_cast<float2*>(a.dv_parts + at + lane_column(n)) =
            make_float2(s.out_scale * v[0], s.out_scale * v[1]);
      }
    }
  }
}

// A block owns a tile of keys of a key head, and visits a part of its query heads in order.
template <int D>
__global__ void __launch_bounds__(kMmaThreads, 2) key_slopes(AttentionSizes s, BackwardArgs a) {
  extern __shared__ __align__(128) unsigned char bytes[];
  using Memory = KeyTiles<D>;
  auto& memory = *reinterpret_cast<Memory*>(bytes);
  const MmaJob job = mma_job(s, s.kv_heads * a.parts);
  const int k0 = job.tile * Memory::kRows, kv = job.head / a.parts, count = s.keys - k0;
  const int heads = s.group() / a.parts, head = job.head * heads;
  const int64_t begin = s.key_row(job.b) + k0;
  const Tiles tiles = tiles_that_see<kVisit>(s, a.docs, job.b, k0, min(Memory::kRows, count));
  const int each = tiles.end - tiles.first, visits = heads * each;
  const auto fetch = [&](int n) {
    fetch_queries<D>(s, a, memory, n % 2, job.b, head + n / each,
                     (tiles.first + n % each) * kVisit);
  };
  fetch_rows<D, Memory::kRows>(memory.k, rows_from(a.k, begin, kv, s.dim), count, s.dim);
  fetch_rows<D, Memory::kRows>(memory.v, rows_from(a.v, begin, kv, s.dim), count, s.dim);
  if (visits > 0) fetch(0);
  else close_copies();
  const int row = 16 * Memory::kBands * warp_id();  // the warp's first in the tile
  KeySums<D> t;
#pragma unroll
  for (int m = 0; m < Memory::kBands; ++m) set_zero<D / 8>(t.dk[m]), set_zero<D / 8>(t.dv[m]);
  Own<D, Memory::kBands, false> k{memory.k, row}, v{memory.v, row};
  for (int n = 0; n < visits; ++n) {
    await_copies<0>();
    __syncthreads();
    if (n + 1 < visits) fetch(n + 1);
    const int stage = n % 2, q0 = (tiles.first + n % each) * kVisit;
    const QueryVisit u{memory.q[stage],    memory.d_o[stage],
                       memory.lse[stage],  memory.delta[stage],
                       memory.docs[stage], s.offset - static_cast<int>(s.query_row(job.b)),
                       s.offset + q0,      s.queries - q0,
                       k0 + row,           min(k0 + row + 16 * Memory::kBands, s.keys)};
    const Range range = u.blocks();
    if (u.sees_all()) visit_queries<D, false>(s, t, k, v, u, range);
    else if (range.from < range.to) visit_queries<D, true>(s, t, k, v, u, range);
  }
  await_copies<0>();
  store_keys<D>(s, a, t, job, k0 + row);
}

// out[row, kv dim + c] = sum over p of parts[kv count + p, row, c], the first one first
__device__ inline void sum_parts(const AttentionSizes& s, const float* parts, int count,
                                 Rows<bfloat16> out, int64_t at) {
  const int chunks = s.dim / 8, c = static_cast<int>(at % chunks) * 8;
  const int64_t kv = at / chunks % s.kv_heads, row = at / chunks / s.kv_heads, Tk = s.key_row(s.B);
  float sum[8] = {};
  for (int p = 0; p < count; ++p) {
    const auto* x =
        reinterpret_cast<const float4*>(parts + ((kv * count + p) * Tk + row) * s.dim + c);
    const float4 low = x[0], high = x[1];
    sum[0] += low.x, sum[1] += low.y, sum[2] += low.z, sum[3] += low.w;
    sum[4] += high.x, sum[5] += high.y, sum[6] += high.z, sum[7] += high.w;
  }
  *reinterpret_cast<uint4*>(out[row] + kv * s.dim + c) =
      make_uint4(pack_bf16(sum[0], sum[1]), pack_bf16(sum[2], sum[3]), pack_bf16(sum[4], sum[5]),
                 pack_bf16(sum[6], sum[7]));
}
__global__ void __launch_bounds__(256) sum_heads(AttentionSizes s, BackwardArgs a) {
  const int64_t all = s.key_row(s.B) * s.kv_heads * (s.dim / 8);
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t at = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; at < all;
       at += step) {
    sum_parts(s, a.dk_parts, a.parts, a.dk, at);
    sum_parts(s, a.dv_parts, a.parts, a.dv, at);
  }
}

// ---- launchers ----------------------------------------------------------------------------------

template <int D>
int64_t key_jobs(const AttentionSizes& s) {
  return static_cast<int64_t>(blocks_of(s.keys, KeyTiles<D>::kRows)) * s.B * s.kv_heads;
}
// The query heads of a key head go to blocks of their own while there are few; it depends on shapes
// only, as the order of the sums does.
template <int D>
int parts_of(const AttentionSizes& s) {
  return key_jobs<D>(s) < 1024 ? s.group() : 1;
}
int64_t part_floats(const AttentionSizes& s, int parts) {
  return parts == 1 ? 0 : 2LL * s.kv_heads * parts * s.B * s.keys * s.dim;
}

BackwardArgs backward_args(const ops::AttentionGrad& op) {
  return {.q = rows_of<const bfloat16>(op.in.q),
          .k = rows_of<const bfloat16>(op.in.k),
          .v = rows_of<const bfloat16>(op.in.v),
          .o = rows_of<const bfloat16>(op.o),
          .d_o = rows_of<const bfloat16>(op.d_o),
          .docs = ptr<const int32_t>(op.in.docs),
          .lse = ptr<const float>(op.lse),
          .dq = rows_of<bfloat16>(op.dq),
          .dk = rows_of<bfloat16>(op.dk),
          .dv = rows_of<bfloat16>(op.dv)};
}

template <int D>
void launch(const AttentionSizes& s, BackwardArgs a, Stream stream) {
  const cudaStream_t on = stream_of(stream);
  const int64_t floats = part_floats(s, parts_of<D>(s)), deltas = s.heads * s.tokens();
  a.parts = parts_of<D>(s);
  a.delta = workspace<float>(stream, kDeltaSlot, deltas);
  if (a.parts > 1) {
    a.dk_parts = workspace<float>(stream, kPartSlot, floats);
    a.dv_parts = a.dk_parts + floats / 2;
  }
  row_deltas<<<narrow<int>(blocks_of<int64_t>(deltas * kDeltaLanes, kDeltaThreads)), kDeltaThreads,
               0, on>>>(s, a);
  launched("attention_grad: row sums");
  const auto keys = narrow<int>(key_jobs<D>(s) * a.parts);
  allow_shared(key_slopes<D>, sizeof(KeyTiles<D>));
  key_slopes<D><<<keys, kMmaThreads, sizeof(KeyTiles<D>), on>>>(s, a);
  launched("attention_grad: keys");
  const auto queries =
      narrow<int>(static_cast<int64_t>(s.heads) * s.B * blocks_of(s.queries, QueryTiles<D>::kRows));
  allow_shared(query_slopes<D>, sizeof(QueryTiles<D>));
  query_slopes<D><<<queries, kMmaThreads, sizeof(QueryTiles<D>), on>>>(s, a);
  launched("attention_grad: queries");
  if (a.parts == 1) return;
  sum_heads<<<grid_for(s.kv_heads * static_cast<int64_t>(s.B) * s.keys * (s.dim / 8), 256), 256, 0,
              on>>>(s, a);
  launched("attention_grad: sums over heads");
}

}  // namespace

void need_mma(const ops::AttentionGrad& op, WorkspaceNeed& n) {
  const AttentionSizes s(op.in);
  if (op.in.q.dtype != Dtype::BF16 || !fits_mma(s.dim) || s.empty()) return;
  with_head_dim(s.dim, [&](auto d) {
    need_workspace(n, kPartSlot,
                   part_floats(s, parts_of<d>(s)) * static_cast<int64_t>(sizeof(float)));
  });
}

bool slopes_by_mma(const ops::AttentionGrad& op, Stream stream) {
  const AttentionSizes s(op.in);
  if (!fits_mma(s.dim)) return false;
  for (const Tensor& t : {Tensor(op.in.q), Tensor(op.in.k), Tensor(op.in.v), Tensor(op.o),
                          Tensor(op.d_o), Tensor(op.dq), Tensor(op.dk), Tensor(op.dv)})
    if (!fits_mma(t)) return false;
  with_head_dim(s.dim, [&](auto d) { launch<d>(s, backward_args(op), stream); });
  return true;
}

}  // namespace ft::cuda
