// The SSD's backward by tensor cores; names follow cuda/ssd_grad.cu. K is kept in bf16, as operands
// are anyway. carry <K, S>, which flows over all of a chunk's decays, is added to the o of its last
// token; of du.x only out_j K B_j.x_j is added up here, since the rest is k_j / dt_j, and in fp32.
#pragma once

#include "cuda/ssd/backward.h"
#include "cuda/ssd/states_mma.h"

namespace ft::cuda {

using MmaGradArgs = SsdGradArgs<bfloat16, bfloat16>;

// -------------------------------------------------------------------------------------------------
// Kernels
// -------------------------------------------------------------------------------------------------

// Sums of a tile of T over columns and over rows; threads < kSsdTile get those of a row, a column.
struct MmaTileSums {
  float rows[2][kSsdTile], columns[2][kSsdTile];

  __device__ float2 of(MmaSum<kSsdTile>& t) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    float column[kSsdTile / 8] = {};
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int block = 0; block < kSsdTile / 16; ++block)
#pragma unroll
        for (int v = 0; v < 4; ++v) column[block * 2 + v % 2] += t[half][block][v];
#pragma unroll
    for (int c = 0; c < kSsdTile / 8; ++c) {
#pragma unroll
      for (int offset = 4; offset < kWarp; offset *= 2)
        column[c] += __shfl_xor_sync(~0u, column[c], offset);
      if (lane < 4)
        columns[mma_row() / 32][mma_column<kSsdTile>() + c / 2 * 8 + lane * 2 + c % 2] = column[c];
    }
    const float row = mma_row_sums<kSsdTile, kSsdTile>(
        t, rows, [](int, int, float first, float second) { return first + second; });
    const int own = static_cast<int>(threadIdx.x);
    return {row, own < kSsdTile ? columns[0][own] + columns[1][own] : 0.0f};
  }
};

// Decays of the tokens of a tile's rows and columns. A thread reads those of one, a head ahead.
struct MmaInsideVectors {
  float2 rows[kSsdTile], columns[kSsdTile];
  float dt[kSsdTile];

  struct One {
    float2 cs;
    float dt;
  };
  __device__ static One read(const SsdDecays& from, int I, int J, int q) {
    const int own = static_cast<int>(threadIdx.x);
    const int at = own < kSsdTile ? I + own : J + own - kSsdTile;
    return at < q ? One{from.cs[at], from.dt[at]} : One{};
  }
  __device__ void store(const One& one) {
    const int own = static_cast<int>(threadIdx.x);
    if (own < kSsdTile) rows[own] = one.cs;
    else columns[own - kSsdTile] = one.cs, dt[own - kSsdTile] = one.dt;
  }
};

// Tokens of several heads, each head's columns padded to whole steps.
struct MmaHeads {
  const bfloat16* data;
  int64_t stride;
  int rows, per_head, padded;
  using Raw = uint4;
  __device__ Raw load(int row, int column) const {
    const int head = column / padded, p = column - head * padded;
    if (row >= rows || p >= per_head) return {};
    return *reinterpret_cast<const uint4*>(data + row * stride + head * per_head + p);
  }
  __device__ uint4 pack(const Raw& raw, int, int) const { return raw; }
};

// R += M dS;  T = M dS (C B^T), in place of dy.x. Of M's elements those count whose bit is set.
__device__ inline void mma_decay_tile(const MmaInsideVectors& v, uint32_t allowed,
                                      const MmaSum<kSsdTile>& scores, MmaSum<kSsdTile>& t,
                                      MmaSum<kSsdTile>& mixed) {
  const int row = mma_row() + static_cast<int>(threadIdx.x) % kWarp / 4;
  const int column = mma_column<kSsdTile>() + static_cast<int>(threadIdx.x) % 4 * 2;
#pragma unroll
  for (int half = 0; half < 2; ++half)
#pragma unroll
    for (int block = 0; block < kSsdTile / 16; ++block)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int i = row + half * 16 + e / 2 * 8, j = column + block * 8 + e % 2;
        const float2 a = v.rows[i], b = v.columns[j];
        const float decayed = mma_exp((a.x - b.x) + (a.y - b.y)) * v.dt[j] * t[half][block][e];
        const bool counts = allowed >> (half * 16 + block * 4 + e) & 1;
        mixed[half][block][e] += counts ? decayed : 0.0f;
        t[half][block][e] = counts ? decayed * scores[half][block][e] : 0.0f;
      }
}

// The scores of a tile, and a bit for each of this thread's that M lets through.
__device__ inline uint32_t mma_read_scores(const MmaGradArgs& k, int64_t chunk, int64_t at, int I,
                                           int J, MmaSum<kSsdTile>& scores) {
  const int64_t begin = k.s.begin(chunk);
  const int q = k.s.tokens(chunk);
  uint32_t allowed = 0, bit = 1;
  mma_each<kSsdTile>(scores, [&](int i, int j, float& first, float& second) {
    if (I + i < q && J + j <= I + i) {
      const int64_t start = k.docs[begin + I + i] - begin;
      const float2 pair = *reinterpret_cast<const float2*>(k.scores + at + i * k.s.q + j);
      first = pair.x, second = pair.y;
      if (J + j >= start) allowed |= bit;
      if (J + j + 1 >= start && J + j < I + i) allowed |= bit << 1;
    }
    bit <<= 2;
  });
  return allowed;
}

// A tile of R and the sums of T. The group's heads follow each other in one contraction, so that
// operands are read ahead over their borders; at a border the head before is finished.
template <int kTile>
__global__ void __launch_bounds__(2 * kTile, 3) mma_inside(MmaGradArgs k, int64_t tiles) {
  static_assert(kTile == kSsdTile);
  __shared__ MmaShared<kTile, kTile> shared;
  __shared__ MmaInsideVectors vectors[2];
  __shared__ MmaTileSums sums;
  const int J = static_cast<int>(blockIdx.x % tiles) * kTile;
  const int I = static_cast<int>(blockIdx.x / tiles % tiles) * kTile;
  const int64_t index = blockIdx.x / (tiles * tiles);  // of chunk and group
  const int64_t chunk = index / k.s.G, head = index % k.s.G * k.s.per_group;
  const int64_t begin = k.s.begin(chunk), first = (chunk * k.s.H + head) * k.s.q;
  const int q = k.s.tokens(chunk), P = static_cast<int>(k.s.P), own = static_cast<int>(threadIdx.x);
  const int heads = static_cast<int>(k.s.per_group), padded = blocks_of(P, kMmaStep) * kMmaStep;
  if (J > I || I >= q) return;
  const int64_t at = (index * k.s.q + I) * k.s.q + J;
  MmaSum<kTile> mixed = {}, scores = {}, t = {};
  const uint32_t allowed = mma_read_scores(k, chunk, at, I, J, scores);
  MmaInsideVectors::One next = MmaInsideVectors::read(k.decays.at(first), I, J, q);
  const auto finish = [&](int h) {
    mma_decay_tile(vectors[h % 2], allowed, scores, t, mixed);
    const float2 sum = sums.of(t);
    const int64_t vector = first + h * k.s.q;
    if (own < kTile && I + own < q) k.parts.r[J / kTile * k.parts.pitch + vector + I + own] = sum.x;
    if (own < kTile && J + own < q) k.parts.k[I / kTile * k.parts.pitch + vector + J + own] = sum.y;
    mma_each<kTile>(t, [](int, int, float& a, float& b) { a = b = 0; });
  };
  const auto enter = [&](int step) {
    if (step % padded != 0) return;
    const int h = step / padded;
    if (h > 0) finish(h - 1);
    vectors[h % 2].store(next);
    if (h + 1 < heads) next = MmaInsideVectors::read(k.decays.at(first + (h + 1) * k.s.q), I, J, q);
  };
  MmaHeads dy{k.dy[begin + I] + head * P, k.dy.stride, q - I, P, padded};
  MmaHeads x{k.x[begin + J] + head * P, k.x.stride, q - J, P, padded};
  mma_multiply<kTile, kTile, MmaRows::Tile, MmaRows::Tile>(shared, 0, heads * padded, dy, x, t,
                                                           enter);
  finish(heads - 1);
  mma_each<kTile>(mixed, [&](int i, int j, float a, float b) {
    if (I + i < q && J + j < k.s.q) mma_store(k.mixed + at + i * k.s.q + j, a, b);
  });
}

// K as an operand, which adds up <K, S> on its way where it counts.
struct MmaLeaving : MmaPlain {
  const float* states;  // nothing is added up where null
  double sum;
  __device__ uint4 pack(const Raw& raw, int row, int column) {
    if (!states || row >= rows || column >= columns) return raw;
    const float4* from = reinterpret_cast<const float4*>(states + row * stride + column);
    const float4 a = from[0], b = from[1];
    float part = low_of(raw.x) * a.x + high_of(raw.x) * a.y;
    part += low_of(raw.y) * a.z + high_of(raw.y) * a.w;
    part += low_of(raw.z) * b.x + high_of(raw.z) * b.y;
    part += low_of(raw.w) * b.z + high_of(raw.w) * b.w;
    sum += part;
    return raw;
  }
};

// A tile of tokens and of P, of one head.
struct MmaInputsTile {
  int64_t chunk, head, group, begin, column, state;  // first column of x, first number of the state
  int J, q, rows, columns;
  const bfloat16 *x, *dy;

  __device__ MmaInputsTile(const MmaGradArgs& k, int64_t index, int first, int tile)
      : chunk(index / k.s.H),
        head(index % k.s.H),
        group(head / k.s.per_group),
        begin(k.s.begin(chunk)),
        column(head * k.s.P + tile * kSsdTile),
        state(chunk * k.s.state() + column * k.s.N),
        J(first),
        q(k.s.tokens(chunk)),
        rows(q - J),
        columns(static_cast<int>(k.s.P) - tile * kSsdTile),
        x(k.x[begin + J] + column),
        dy(k.dy[begin + J] + column) {}
  __device__ bool inside(int j, int p) const { return j < rows && p < columns; }
};
template <int kRows>
struct MmaInputsShared {
  MmaShared<kRows, kSsdTile> tiles;
  MmaVectors v;
  float sums[2][kRows];
};

// o of this thread's token, from S C.
template <int kRows>
__device__ float mma_entering(const MmaGradArgs& k, const MmaInputsTile& t,
                              MmaInputsShared<kRows>& shared) {
  const int N = static_cast<int>(k.s.N);
  MmaSum<kSsdTile> sum = {};
  MmaPlain c{k.c[t.begin + t.J] + t.group * N, k.c.stride, t.rows, N};
  MmaFloats entering{k.states + t.state, N, t.columns, N};
  mma_multiply<kRows, kSsdTile, MmaRows::Tile, MmaRows::Tile>(shared.tiles, 0, N, c, entering, sum);
  return mma_row_sums<kRows, kSsdTile>(
      sum, shared.sums, [&](int i, int p, float first, float second) {
        if (!t.inside(i, p)) return 0.0f;
        const float2 g = mma_load(t.dy + i * k.dy.stride + p);
        return ssd_masked(shared.v.in[t.J + i], first * g.x + second * g.y);
      });
}

// sum = out_j K B_j. Returns out_j x_j.(K B_j) of this thread's token; the o of the chunk's last
// token grows by carry <K, S>.
template <int kRows>
__device__ float mma_leaving(const MmaGradArgs& k, const MmaInputsTile& t,
                             MmaInputsShared<kRows>& shared, MmaSum<kSsdTile>& sum, float& o) {
  const int N = static_cast<int>(k.s.N);
  const float carry = shared.v.in[t.q - 1];
  const bool whole = t.J + kRows >= t.q && carry != 0;
  MmaPlain b{k.b[t.begin + t.J] + t.group * N, k.b.stride, t.rows, N};
  MmaLeaving leaving{
      {k.leaving + t.state, N, t.columns, N}, whole ? k.states + t.state : nullptr, 0};
  mma_multiply<kRows, kSsdTile, MmaRows::Tile, MmaRows::Tile>(shared.tiles, 0, N, b, leaving, sum);
  const float through = carry * static_cast<float>(block_sum<2 * kRows>(leaving.sum));
  if (whole && static_cast<int>(threadIdx.x) == t.rows - 1) o += through;
  mma_each<kSsdTile>(sum, [&](int j, int, float& first, float& second) {
    const float out = j < t.rows ? shared.v.out[t.J + j] : 0.0f;
    first = ssd_masked(out, first), second = ssd_masked(out, second);
  });
  return mma_row_sums<kRows, kSsdTile>(sum, shared.sums,
                                       [&](int j, int p, float first, float second) {
                                         if (!t.inside(j, p)) return 0.0f;
                                         const float2 u = mma_load(t.x + j * k.x.stride + p);
                                         return first * u.x + second * u.y;
                                       });
}

// dx of a tile of tokens, and what its tokens add to the sums; dx is stored as y.x is added up.
template <int kRows>
__global__ void __launch_bounds__(2 * kRows, 2)
    mma_inputs(MmaGradArgs k, Rows<bfloat16> dx, int64_t j_tiles, int64_t p_tiles) {
  __shared__ MmaInputsShared<kRows> shared;
  const int64_t index = blockIdx.x / (j_tiles * p_tiles);  // of chunk and head
  const int tile = static_cast<int>(blockIdx.x / j_tiles % p_tiles);
  const MmaInputsTile t(k, index, static_cast<int>(blockIdx.x % j_tiles) * kRows, tile);
  const int own = static_cast<int>(threadIdx.x);
  if (t.J >= t.q) return;
  MmaVectors& v = shared.v;
  v.load_from<2 * kRows>(k.decays.at(index * k.s.q), k.docs + t.begin, t.begin, t.q);
  float o = mma_entering(k, t, shared);
  MmaSum<kSsdTile> sum = {};
  const float ux = mma_leaving(k, t, shared, sum, o);
  const float* matrix = k.scores + (t.chunk * k.s.G + t.group) * k.s.q * k.s.q;
  MmaDecayed<false> scores{matrix, k.s.q, 0, t.J, t.q, &v};
  MmaPlain dy{k.dy[t.begin] + t.column, k.dy.stride, t.q, t.columns};
  mma_multiply<kRows, kSsdTile, MmaRows::Steps, MmaRows::Steps>(shared.tiles, t.J, t.q, scores, dy,
                                                                sum);
  const float d = k.d[t.head];
  const float yx =
      mma_row_sums<kRows, kSsdTile>(sum, shared.sums, [&](int j, int p, float first, float second) {
        if (!t.inside(j, p)) return 0.0f;
        const float2 u = mma_load(t.x + j * k.x.stride + p),
                     g = mma_load(t.dy + j * k.dy.stride + p);
        const float dt = v.dt[t.J + j];
        mma_store(dx[t.begin + t.J + j] + t.column + p, dt * first + d * g.x,
                  dt * second + d * g.y);
        return u.x * g.x + u.y * g.y;
      });
  if (own >= kRows || own >= t.rows) return;
  const int64_t part = tile * k.parts.pitch + index * k.s.q + t.J + own;
  k.parts.o[part] = o, k.parts.q[part] = v.dt[t.J + own] * ux;
  k.parts.ux[part] = ux, k.parts.yx[part] = yx;
}

// dC where kEntering, else dB, of a tile of tokens and of N: the heads of the group one after
// another, as one long contraction, then R.
template <int kRows, bool kEntering>
__device__ void mma_group_tile(const MmaGradArgs& k, MmaShared<kRows, kStateColumns>& shared,
                               Rows<bfloat16> to, int I, int n0, int64_t index) {
  const int64_t chunk = index / k.s.G, group = index % k.s.G, begin = k.s.begin(chunk);
  const int64_t head = group * k.s.per_group,
                state = chunk * k.s.state() + head * k.s.P * k.s.N + n0;
  const int q = k.s.tokens(chunk), P = static_cast<int>(k.s.P), N = static_cast<int>(k.s.N);
  const int heads = static_cast<int>(k.s.per_group * P), columns = N - n0;
  const Rows<const bfloat16> tokens = kEntering ? k.dy : k.x, others = kEntering ? k.b : k.c;
  const float* factors =
      (kEntering ? k.decays.in : k.decays.weight) + (chunk * k.s.H + head) * k.s.q + I;
  MmaScaled a{tokens[begin + I] + head * P, tokens.stride, q - I, heads, factors, k.s.q, P};
  MmaSum<kStateColumns> sum = {};
  constexpr MmaRows kTile = MmaRows::Tile, kSteps = MmaRows::Steps;
  if constexpr (kEntering) {
    MmaFloats states{k.states + state, N, heads, columns};
    mma_multiply<kRows, kStateColumns, kTile, kSteps>(shared, 0, heads, a, states, sum);
  } else {
    MmaPlain states{k.leaving + state, N, heads, columns};
    mma_multiply<kRows, kStateColumns, kTile, kSteps>(shared, 0, heads, a, states, sum);
  }
  MmaPlain other{others[begin] + group * N + n0, others.stride, q, columns};
  MmaLower mixed{k.mixed + index * k.s.q * k.s.q, k.s.q, kEntering ? I : 0, kEntering ? 0 : I, q};
  if constexpr (kEntering)
    mma_multiply<kRows, kStateColumns, kTile, kSteps>(shared, 0, min(q, I + kRows), mixed, other,
                                                      sum);
  else mma_multiply<kRows, kStateColumns, kSteps, kSteps>(shared, I, q, mixed, other, sum);
  mma_each<kStateColumns>(sum, [&](int i, int n, float first, float second) {
    if (I + i < q && n < columns) mma_store(to[begin + I + i] + group * N + n0 + n, first, second);
  });
}

template <int kRows>
__global__ void __launch_bounds__(2 * kRows, 2)
    mma_group_inputs(MmaGradArgs k, Rows<bfloat16> dc, Rows<bfloat16> db, int64_t i_tiles,
                     int64_t n_tiles) {
  __shared__ MmaShared<kRows, kStateColumns> shared;
  const bool entering = blockIdx.x % 2 == 0;
  const int64_t block = blockIdx.x / 2;
  const int I = static_cast<int>(block % i_tiles) * kRows;
  const int n0 = static_cast<int>(block / i_tiles % n_tiles) * kStateColumns;
  const int64_t index = block / (i_tiles * n_tiles);  // of chunk and group
  if (I >= k.s.tokens(index / k.s.G)) return;
  if (entering) mma_group_tile<kRows, true>(k, shared, dc, I, n0, index);
  else mma_group_tile<kRows, false>(k, shared, db, I, n0, index);
}

// -------------------------------------------------------------------------------------------------
// Launchers
// -------------------------------------------------------------------------------------------------

inline bool mma_fits(const ops::SsdGrad& op) {
  return mma_aligned(op.in) && mma_aligned(op.dy) && mma_aligned(op.dx) && mma_aligned(op.db) &&
         mma_aligned(op.dc) && mma_aligned(op.states) &&
         (!op.dfinal_state || mma_aligned(*op.dfinal_state)) &&
         (!op.dinitial_state || mma_aligned(*op.dinitial_state));
}

template <int kRows>
void mma_start_inputs(const ops::SsdGrad& op, const MmaGradArgs& k, cudaStream_t on) {
  const SsdSizes& s = k.s;
  const int64_t tiles = blocks_of<int64_t>(s.q, kRows), p_tiles = s.p_tiles();
  const int64_t n_tiles = blocks_of<int64_t>(s.N, kStateColumns);
  mma_inputs<kRows><<<ssd_grid(s.all_chunks() * s.H * tiles * p_tiles), 2 * kRows, 0, on>>>(
      k, rows_of<bfloat16>(op.dx), tiles, p_tiles);
  launched("ssd mma_inputs");
  mma_group_inputs<kRows>
      <<<ssd_grid(2 * s.all_chunks() * s.G * tiles * n_tiles), 2 * kRows, 0, on>>>(
          k, rows_of<bfloat16>(op.dc), rows_of<bfloat16>(op.db), tiles, n_tiles);
  launched("ssd mma_group_inputs");
}

inline void mma_backward(const ops::SsdGrad& op, MmaGradArgs k, cudaStream_t on) {
  const SsdSizes& s = k.s;
  const int64_t tiles = s.row_tiles();
  float* dinitial = op.dinitial_state ? ptr<float>(*op.dinitial_state) : nullptr;
  const float* dfinal = op.dfinal_state ? ptr<const float>(*op.dfinal_state) : nullptr;
  k.parts.by_k = true;
  mma_prepare(k, on);
  mma_start_states<true, bfloat16>(k, {k.dy, k.c, k.decays.in, k.leaving, dfinal, dinitial}, on);
  mma_inside<kSsdTile>
      <<<ssd_grid(s.all_chunks() * s.G * tiles * tiles), 2 * kSsdTile, 0, on>>>(k, tiles);
  launched("ssd mma_inside");
  if (s.q > kSsdTile) mma_start_inputs<2 * kSsdTile>(op, k, on);
  else mma_start_inputs<kSsdTile>(op, k, on);
  ssd_start_sums(op, k, on);
}

}  // namespace ft::cuda
