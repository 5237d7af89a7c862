// What tokens and heads add up to in the SSD's backward: d dt, and the gradients of A_log, dt_bias
// and D. Names follow cuda/ssd_grad.cu.
#pragma once

#include "cuda/ssd_common.h"

namespace ft::cuda {

// What each token and head adds to the sums of a chunk, in parts; vectors as in SsdDecays.
struct SsdParts {
  double *r, *k;           // [row tiles] vectors: of the tiles of a row, of a column
  float *o, *q, *ux, *yx;  // [tiles of P] vectors: o_i; q_j; du.x; dy.x
  double *sums, *e;        // [chunks, H, 3]: of A_log, dt_bias, D; [chunks, H]: carry <K, S>
  int64_t pitch;
  bool by_k = false;  // e is a part of o, and du.x lacks k_j / dt_j

  static int64_t bytes(const SsdSizes& s) {
    return s.vectors() * (16 * s.row_tiles() + 16 * s.p_tiles()) + s.all_chunks() * s.H * 4 * 8;
  }
  SsdParts(void* memory, const SsdSizes& s) : pitch(s.vectors()) {
    r = static_cast<double*>(memory);
    k = r + pitch * s.row_tiles();
    sums = k + pitch * s.row_tiles();
    e = sums + s.all_chunks() * s.H * 3;
    o = reinterpret_cast<float*>(e + s.all_chunks() * s.H);
    q = o + pitch * s.p_tiles();
    ux = q + pitch * s.p_tiles();
    yx = ux + pitch * s.p_tiles();
  }
};

template <class E, class K = float>
struct SsdGradArgs : SsdArgs<E> {
  Rows<const E> dy;
  const float* states;
  K* leaving;    // K of each chunk, as states
  float* mixed;  // R, as scores
  SsdParts parts;
};

// -------------------------------------------------------------------------------------------------
// Kernels
// -------------------------------------------------------------------------------------------------

struct SsdFlow {
  double own, q, k;  // r - k + o; q; k
};
__device__ inline SsdFlow ssd_flow(const SsdParts& parts, const SsdSizes& s, int64_t vector, int i,
                                   int q) {
  const int64_t tile_of_i = i / kSsdTile, tiles = blocks_of(q, kSsdTile), at = vector + i;
  SsdFlow f{};
  for (int64_t tile = 0; tile <= tile_of_i; ++tile) f.own += parts.r[tile * parts.pitch + at];
  for (int64_t tile = tile_of_i; tile < tiles; ++tile) f.k += parts.k[tile * parts.pitch + at];
  f.own -= f.k;
  for (int64_t tile = 0; tile < s.p_tiles(); ++tile) {
    f.own += parts.o[tile * parts.pitch + at];
    f.q += parts.q[tile * parts.pitch + at];
  }
  return f;
}

// d dt of a token from its flow; adds to the sums of A_log, dt_bias and D.
template <class E, class K>
__device__ inline float ssd_finish_token(const SsdGradArgs<E, K>& k, int64_t at, float raw,
                                         double flow, double k_i, float rate, double (&sums)[3]) {
  const float dt = k.decays.dt[at];
  float ux = k.parts.by_k && dt > 0 ? static_cast<float>(k_i / dt) : 0.0f, yx = 0;
  for (int64_t tile = 0; tile < k.s.p_tiles(); ++tile) {
    ux += k.parts.ux[tile * k.parts.pitch + at];
    yx += k.parts.yx[tile * k.parts.pitch + at];
  }
  const float by_decay = static_cast<float>(flow) * rate, soft = ssd_softplus(raw);
  float slope = raw > 20 ? 1.0f : 1.0f / (1.0f + expf(-raw));
  if (soft < k.limits.min || soft > k.limits.max) slope = 0;
  const float draw = (ux + by_decay) * slope;
  sums[0] += dt * by_decay;
  sums[1] += draw;
  sums[2] += yx;
  return draw * k.limits.scale;
}

// d dt of one chunk and head, from its last token to its first, and its sums; by a warp.
template <class E, class K>
__global__ void __launch_bounds__(kSsdThreads) ssd_steps(SsdGradArgs<E, K> k, Rows<E> ddt) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kSsdWarps + threadIdx.x / kWarp;
  if (index >= k.s.all_chunks() * k.s.H) return;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int64_t chunk = index / k.s.H, head = index % k.s.H, begin = k.s.begin(chunk);
  const int64_t vector = index * k.s.q;
  const int q = k.s.tokens(chunk);
  const int32_t* docs = k.docs + begin;
  const int64_t first = docs[q - 1] - begin;  // token of the last document
  const float rate = static_cast<float>(-exp(static_cast<double>(k.a_log[head])));
  const float bias = k.dt_bias[head];
  double through = 0, after = 0, sums[3] = {};
  for (int i = lane; i < q; i += kWarp)
    for (int64_t tile = 0; tile < k.s.p_tiles(); ++tile)
      through += k.parts.q[tile * k.parts.pitch + vector + i];
  through = warp_sum(through);
  for (int base = 0; base < q; base += kWarp) {
    const int i = q - 1 - base - lane;
    SsdFlow f{};
    if (i >= 0) f = ssd_flow(k.parts, k.s, vector, i, q);
    const bool restart = i >= 0 && i < q - 1 && docs[i + 1] - begin == i + 1;
    const double flow = ssd_scan(f.own - f.q, restart, after);
    after = ssd_last_lane(flow);
    if (i < 0) continue;
    const float raw = k.limits.scale * to_float(k.dt[begin + i][head]) + bias;
    const double whole = flow + (i >= first ? through : 0) + (k.parts.by_k ? 0 : k.parts.e[index]);
    ddt[begin + i][head] =
        from_float<E>(ssd_finish_token(k, vector + i, raw, whole, f.k, rate, sums));
  }
  for (int v = 0; v < 3; ++v) {
    const double sum = warp_sum(sums[v]);
    if (lane == 0) k.parts.sums[index * 3 + v] = sum;
  }
}

// The sums of a head over all chunks; a block has one head.
template <int kThreads>
__global__ void __launch_bounds__(kThreads)
    ssd_head_sums(const double* sums, int64_t chunks, int64_t heads, bool accumulate, float* da_log,
                  float* ddt_bias, float* dd) {
  const int64_t head = blockIdx.x;
  float* const outs[3] = {da_log, ddt_bias, dd};
  for (int v = 0; v < 3; ++v) {
    double sum = 0;
    for (int64_t c = threadIdx.x; c < chunks; c += kThreads)
      sum += sums[(c * heads + head) * 3 + v];
    sum = block_sum<kThreads>(sum);
    if (threadIdx.x > 0) continue;
    float& to = outs[v][head];
    to = static_cast<float>(accumulate ? to + sum : sum);
  }
}

// -------------------------------------------------------------------------------------------------
// Launchers
// -------------------------------------------------------------------------------------------------

template <class E, class K>
void ssd_start_sums(const ops::SsdGrad& op, const SsdGradArgs<E, K>& k, cudaStream_t on) {
  const SsdSizes& s = k.s;
  ssd_steps<E, K>
      <<<ssd_grid(blocks_of<int64_t>(s.all_chunks() * s.H, kSsdWarps)), kSsdThreads, 0, on>>>(
          k, rows_of<E>(op.ddt));
  launched("ssd steps");
  ssd_head_sums<kSsdThreads><<<ssd_grid(s.H), kSsdThreads, 0, on>>>(
      k.parts.sums, s.all_chunks(), s.H, op.grad == Grad::Accumulate, ptr<float>(op.da_log),
      ptr<float>(op.ddt_bias), ptr<float>(op.dd));
  launched("ssd head_sums");
}

}  // namespace ft::cuda
