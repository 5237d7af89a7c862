// Attention backward on tensor cores: what its two kinds of blocks share.
#pragma once

#include "cuda/attention_mma.h"

namespace ft::cuda {

struct BackwardArgs {
  Rows<const bfloat16> q, k, v, o, d_o;
  const int32_t* docs;
  const float* lse;
  float* delta;  // [heads, T]: D
  Rows<bfloat16> dq, dk, dv;
  int parts;                   // blocks that share the query heads of a key head
  float *dk_parts, *dv_parts;  // [kv_heads parts, Tk, dim]: theirs, where they are several
};

// Products q.k and do.v become P and dS.
__device__ inline void slope(const AttentionSizes& s, float lse_2, float delta, bool there,
                             float& p, float& ds) {
  p = there ? exp2_fast(fmaf(s.softmax_scale * kLog2E, p, -lse_2)) : 0.0f;
  ds = there ? p * fmaf(s.out_scale, ds, -delta) : 0.0f;
}

// A band, which begins at row `row` of out; `count` of out's rows exist.
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

}  // namespace ft::cuda
