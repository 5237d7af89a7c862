// The outputs of the SSD's forward by tensor cores.
#pragma once

#include "cuda/ssd/states_mma.h"

namespace ft::cuda {

// y_i = in_i S C_i + sum_j M_ij (C_i.B_j) dt_j x_j + D x_i of a tile of tokens and of P.
template <int kRows>
__global__ void __launch_bounds__(2 * kRows, 2)
    mma_output(SsdArgs<bfloat16> k, const float* states, Rows<bfloat16> y, int64_t i_tiles,
               int64_t p_tiles) {
  constexpr int kColumns = kSsdTile;
  __shared__ MmaShared<kRows, kColumns> shared;
  __shared__ MmaVectors v;
  const int I = static_cast<int>(blockIdx.x % i_tiles) * kRows;
  const int p0 = static_cast<int>(blockIdx.x / i_tiles % p_tiles) * kColumns;
  const int64_t index = blockIdx.x / (i_tiles * p_tiles);  // of chunk and head
  const int64_t chunk = index / k.s.H, head = index % k.s.H, begin = k.s.begin(chunk);
  const int64_t group = head / k.s.per_group, column = head * k.s.P + p0;
  const int q = k.s.tokens(chunk), N = static_cast<int>(k.s.N);
  const int columns = static_cast<int>(k.s.P) - p0;
  if (I >= q) return;
  v.load_from<2 * kRows>(k.decays.at(index * k.s.q), k.docs + begin, begin, q);
  MmaPlain c{k.c[begin + I] + group * N, k.c.stride, q - I, N};
  MmaFloats state{states + chunk * k.s.state() + column * N, N, columns, N};
  MmaSum<kColumns> sum = {};
  mma_multiply<kRows, kColumns, MmaRows::Tile, MmaRows::Tile>(shared, 0, N, c, state, sum);
  mma_each<kColumns>(sum, [&](int i, int, float& first, float& second) {
    const float in = I + i < q ? v.in[I + i] : 0.0f;
    first = ssd_masked(in, first), second = ssd_masked(in, second);
  });
  MmaDecayed<true> scores{k.scores + (chunk * k.s.G + group) * k.s.q * k.s.q, k.s.q, I, 0, q, &v};
  MmaPlain x{k.x[begin] + column, k.x.stride, q, columns};
  mma_multiply<kRows, kColumns, MmaRows::Tile, MmaRows::Steps>(shared, 0, min(q, I + kRows), scores,
                                                               x, sum);
  const float d = k.d[head];
  mma_each<kColumns>(sum, [&](int i, int p, float first, float second) {
    if (I + i >= q || p >= columns) return;
    const float2 own = mma_load(k.x[begin + I + i] + column + p);
    mma_store(y[begin + I + i] + column + p, first + d * own.x, second + d * own.y);
  });
}

template <int kRows>
void mma_start_output(const SsdArgs<bfloat16>& k, const float* states, Rows<bfloat16> y,
                      cudaStream_t on) {
  const SsdSizes& s = k.s;
  const int64_t i_tiles = blocks_of<int64_t>(s.q, kRows), p_tiles = s.p_tiles();
  mma_output<kRows><<<ssd_grid(s.all_chunks() * s.H * i_tiles * p_tiles), 2 * kRows, 0, on>>>(
      k, states, y, i_tiles, p_tiles);
  launched("ssd mma_output");
}

inline bool mma_fits(const ops::Ssd& op) {
  return mma_aligned(op.in) && mma_aligned(op.y) && mma_aligned(op.states) &&
         (!op.initial_state || mma_aligned(*op.initial_state)) &&
         (!op.final_state || mma_aligned(*op.final_state));
}

inline void mma_forward(const ops::Ssd& op, const SsdArgs<bfloat16>& k, float* states,
                        const float* initial, float* final, cudaStream_t on) {
  mma_prepare(k, on);
  mma_start_states<false, float>(k, {k.x, k.b, k.decays.weight, states, initial, final}, on);
  if (k.s.q > kSsdTile) mma_start_output<2 * kSsdTile>(k, states, rows_of<bfloat16>(op.y), on);
  else mma_start_output<kSsdTile>(k, states, rows_of<bfloat16>(op.y), on);
}

}  // namespace ft::cuda
