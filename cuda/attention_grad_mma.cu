// Attention backward in bf16 on tensor cores (Dao 2023): formulas as in attention_grad.cu. Blocks own
// queries, or keys; scores are formed in both, so that nothing is summed in an order of chance.
#include "cuda/attention_grad_keys.h"
#include "cuda/attention_grad_queries.h"

namespace ft::cuda {

namespace {

constexpr int kDeltaSlot = 0, kPartSlot = 1;

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

// Blocks of both kinds, so that the last of one kind do not leave the GPU idle.
template <int D>
__global__ void __launch_bounds__(kMmaThreads, 2)
    slopes(AttentionSizes s, JobList keys, int key_blocks, JobList queries, BackwardArgs a) {
  extern __shared__ __align__(1024) unsigned char bytes[];
  const int block = static_cast<int>(blockIdx.x);
  if (block < key_blocks)
    key_slopes(s, a, *reinterpret_cast<KeyTiles<D>*>(bytes),
               mma_job(s, keys, s.kv_heads * a.parts, block));
  else
    query_slopes(s, a, *reinterpret_cast<QueryTiles<D>*>(bytes),
                 mma_job(s, queries, s.heads, block - key_blocks));
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

// The query heads of a key head go to blocks of their own while there are few; it depends on shapes
// only, as the order of the sums does.
template <int D>
int parts_of(const AttentionSizes& s) {
  const int64_t blocks =
      static_cast<int64_t>(s.kv_heads) * JobList(s, false, KeyTiles<D>::kRows).count;
  return blocks < 1024 ? s.group() : 1;
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
void launch_slopes(const AttentionSizes& s, const BackwardArgs& a, Stream stream) {
  JobList keys(s, false, KeyTiles<D>::kRows), queries(s, true, QueryTiles<D>::kRows);
  JobList* lists[] = {&keys, &queries};
  order_jobs(s, a.docs, lists, 2, s.heads, stream);
  const auto key_blocks = narrow<int>(static_cast<int64_t>(keys.count) * s.kv_heads * a.parts);
  const auto query_blocks = static_cast<int64_t>(queries.count) * s.heads;
  const auto blocks = narrow<int>(key_blocks + query_blocks);
  constexpr int kBytes = std::max(sizeof(KeyTiles<D>), sizeof(QueryTiles<D>));
  allow_shared(slopes<D>, kBytes);
  slopes<D><<<blocks, kMmaThreads, kBytes, stream_of(stream)>>>(s, keys, key_blocks, queries, a);
  launched("attention_grad");
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
  const auto delta_blocks = narrow<int>(blocks_of<int64_t>(deltas * kDeltaLanes, kDeltaThreads));
  row_deltas<<<delta_blocks, kDeltaThreads, 0, on>>>(s, a);
  launched("attention_grad: row sums");
  launch_slopes<D>(s, a, stream);
  if (a.parts == 1) return;
  const int64_t chunks = s.kv_heads * static_cast<int64_t>(s.B) * s.keys * (s.dim / 8);
  sum_heads<<<grid_for(chunks, 256), 256, 0, on>>>(s, a);
  launched("attention_grad: sums over heads");
}

}  // namespace

void need_mma(const ops::AttentionGrad& op, WorkspaceNeed& n) {
  const AttentionSizes s(op.in);
  if (op.in.q.dtype != Dtype::BF16 || !fits_mma(s.dim) || s.empty()) return;
  with_head_dim(s.dim, [&](auto d) {
    need_workspace(n, kPartSlot,
                   part_floats(s, parts_of<d>(s)) * static_cast<int64_t>(sizeof(float)));
    need_order(n, static_cast<int64_t>(JobList(s, false, KeyTiles<d>::kRows).count) +
                      JobList(s, true, QueryTiles<d>::kRows).count);
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
