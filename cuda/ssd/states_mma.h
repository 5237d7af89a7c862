// The states that enter chunks, or with kReverse their gradients, which leave chunks:
//   state <- carry state + sum_j factor_j tokens_j others_j^T
// Either a block walks along a sequence with its part of a state in registers, or what chunks add
// is computed for all of them at once and passed on by another kernel, through memory.
#pragma once

#include "cuda/ssd/chunk_mma.h"
#include "cuda/ssd/pass.h"

namespace ft::cuda {

// Of a block that adds up states: rows of P, columns of N.
inline constexpr int kStateRows = 64, kStateColumns = 128;

// What a state is made of. With kReverse the edge is the initial state, else the final one.
template <class V>
struct MmaStates {
  Rows<const bfloat16> tokens, others;  // x and B; dy and C
  const float* factors;                 // a vector of each chunk and head
  V* states;
  const float* start;  // nothing: 0
  float* edge;         // may be absent
};

// -------------------------------------------------------------------------------------------------
// Kernels
// -------------------------------------------------------------------------------------------------

// What each chunk adds to a state, sum_j factor_j tokens_j others_j^T, to where the state of the
// next chunk lies, of the one before where kReverse; at the end to `edge`, if there is one.
template <bool kReverse, class V>
__global__ void __launch_bounds__(2 * kStateRows, 3)
    mma_additions(SsdArgs<bfloat16> k, MmaStates<V> m, int64_t n_tiles, int64_t p_tiles) {
  __shared__ MmaShared<kStateRows, kStateColumns> shared;
  const int n0 = static_cast<int>(blockIdx.x % n_tiles) * kStateColumns;
  const int p0 = static_cast<int>(blockIdx.x / n_tiles % p_tiles) * kStateRows;
  const int64_t index = blockIdx.x / (n_tiles * p_tiles);  // of chunk and head
  const int64_t chunk = index / k.s.H, head = index % k.s.H, begin = k.s.begin(chunk);
  const bool last = chunk % k.s.chunks == (kReverse ? 0 : k.s.chunks - 1);
  if (last && !m.edge) return;
  const int q = k.s.tokens(chunk);
  const int P = static_cast<int>(k.s.P), N = static_cast<int>(k.s.N);
  MmaScaled a{
      m.tokens[begin] + head * P + p0, m.tokens.stride, q, P - p0, m.factors + index * k.s.q, 0, P};
  MmaPlain b{m.others[begin] + head / k.s.per_group * N + n0, m.others.stride, q, N - n0};
  MmaSum<kStateColumns> sum = {};
  mma_multiply<kStateRows, kStateColumns, MmaRows::Steps, MmaRows::Steps>(shared, 0, q, a, b, sum);
  const auto store_to = [&](auto* to) {
    to += (head * P + p0) * N + n0;
    mma_each<kStateColumns>(sum, [&](int p, int n, float first, float second) {
      if (p < P - p0 && n < N - n0) mma_store(to + p * N + n, first, second);
    });
  };
  if (last) store_to(m.edge + chunk / k.s.chunks * k.s.state());
  else store_to(m.states + (chunk + (kReverse ? -1 : 1)) * k.s.state());
}

// Tokens of a sequence in the order of a walk: chunk after chunk, backwards with kReverse.
template <bool kReverse, bool kScaled>
struct MmaWalked {
  const bfloat16* data;
  int64_t stride, length;
  int columns, Q, chunks;
  const float* factors;  // of this head in the first chunk
  int64_t pitch;         // from a chunk's factors to the next one's
  struct Raw {
    uint4 v;
    float factor;
  };
  __device__ Raw load(int row, int column) const {
    const int walked = row / Q, chunk = kReverse ? chunks - 1 - walked : walked;
    const int i = row - walked * Q;
    const int64_t token = static_cast<int64_t>(chunk) * Q + i;
    if (token >= length || column >= columns) return {};
    Raw raw{*reinterpret_cast<const uint4*>(data + token * stride + column), 1};
    if constexpr (kScaled) raw.factor = factors[chunk * pitch + i];
    return raw;
  }
  __device__ uint4 pack(const Raw& raw, int, int) const {
    if constexpr (kScaled) return mma_scale(raw.v, raw.factor);
    else return raw.v;
  }
};

template <bool kReverse, class V>
__global__ void __launch_bounds__(2 * kStateRows, 3)
    mma_walk(SsdArgs<bfloat16> k, MmaStates<V> m, int64_t n_tiles, int64_t p_tiles) {
  __shared__ MmaShared<kStateRows, kStateColumns> shared;
  const int n0 = static_cast<int>(blockIdx.x % n_tiles) * kStateColumns;
  const int p0 = static_cast<int>(blockIdx.x / n_tiles % p_tiles) * kStateRows;
  const int64_t index = blockIdx.x / (n_tiles * p_tiles);  // of sequence and head
  const int64_t sequence = index / k.s.H, head = index % k.s.H, begin = sequence * k.s.length;
  const int P = static_cast<int>(k.s.P), N = static_cast<int>(k.s.N);
  const int Q = static_cast<int>(k.s.Q), chunks = static_cast<int>(k.s.chunks);
  const int64_t at = (head * P + p0) * N + n0;
  const float* factors = m.factors + (sequence * chunks * k.s.H + head) * k.s.q;
  const bfloat16 *left = m.tokens[begin] + head * P + p0,
                 *right = m.others[begin] + head / k.s.per_group * N + n0;
  const int64_t pitch = k.s.H * k.s.q, length = k.s.length, per = k.s.state();
  MmaWalked<kReverse, true> a{left, m.tokens.stride, length, P - p0, Q, chunks, factors, pitch};
  MmaWalked<kReverse, false> b{right, m.others.stride, length, N - n0, Q, chunks, nullptr, 0};
  MmaSum<kStateColumns> sum = {};
  const auto each = [&](const auto& f) {
    mma_each<kStateColumns>(sum, [&](int p, int n, float& first, float& second) {
      if (p < P - p0 && n < N - n0) f(at + p * N + n, first, second);
    });
  };
  const auto chunk_of = [&](int walked) {
    return sequence * chunks + (kReverse ? chunks - 1 - walked : walked);
  };
  const auto carry_of = [&](int64_t chunk) {
    return k.decays.in[(chunk * k.s.H + head) * k.s.q + k.s.tokens(chunk) - 1];
  };
  if (m.start)
    each([&](int64_t offset, float& first, float& second) {
      const float2 v = *reinterpret_cast<const float2*>(m.start + sequence * per + offset);
      first = v.x, second = v.y;
    });
  float next = carry_of(chunk_of(0));
  const auto enter = [&](int step) {
    if (step % Q != 0) return;
    const int64_t chunk = chunk_of(step / Q);
    const float carry = next;
    each([&](int64_t offset, float& first, float& second) {
      mma_store(m.states + chunk * per + offset, first, second);
      first = ssd_masked(carry, first), second = ssd_masked(carry, second);
    });
    if (step + Q < chunks * Q) next = carry_of(chunk_of(step / Q + 1));
  };
  mma_multiply<kStateRows, kStateColumns, MmaRows::Steps, MmaRows::Steps>(shared, 0, chunks * Q, a,
                                                                          b, sum, enter);
  if (m.edge)
    each([&](int64_t offset, float first, float second) {
      mma_store(m.edge + sequence * per + offset, first, second);
    });
}

// -------------------------------------------------------------------------------------------------
// Launchers
// -------------------------------------------------------------------------------------------------

// Whether to walk, by shapes alone. An estimate: a step of a walk takes half a microsecond however
// many there are beside it; the other way moves each state twice more, at 4 TB/s.
inline bool mma_walks(const SsdSizes& s) {
  const double walk_us = static_cast<double>(s.length) / kMmaStep / 2;
  const double pass_us = static_cast<double>(s.all_chunks() * s.state()) * 4 * 2 / 4e6;
  const bool whole_steps = s.Q % kMmaStep == 0 && s.chunks * s.Q < (int64_t{1} << 30);
  return whole_steps && walk_us < pass_us;
}

template <bool kReverse, class V>
void mma_start_states(const SsdArgs<bfloat16>& k, const MmaStates<V>& m, cudaStream_t on) {
  const SsdSizes& s = k.s;
  const int64_t n_tiles = blocks_of<int64_t>(s.N, kStateColumns);
  const int64_t p_tiles = blocks_of<int64_t>(s.P, kStateRows), tiles = n_tiles * p_tiles;
  if (mma_walks(s)) {
    mma_walk<kReverse, V>
        <<<ssd_grid(s.B * s.H * tiles), 2 * kStateRows, 0, on>>>(k, m, n_tiles, p_tiles);
    return launched("ssd mma_walk");
  }
  mma_additions<kReverse, V>
      <<<ssd_grid(s.all_chunks() * s.H * tiles), 2 * kStateRows, 0, on>>>(k, m, n_tiles, p_tiles);
  launched("ssd mma_additions");
  ssd_start_pass<4, kReverse>(s, k.decays, m.states, m.start, m.edge, on);
}

}  // namespace ft::cuda
