// What the SSD's forward and backward share on the GPU. A chunk has q <= Q tokens; names follow the
// comment of ops::Ssd:
//   cs_i    inclusive prefix sum of dt A inside the chunk, restarted at documents
//   M_ij    exp(cs_i - cs_j) where j <= i are of one document, else 0
//   in_i    exp(cs_i) where token i still sees the state that enters the chunk, else 0
//   out_j   exp(cs_last - cs_j) where token j is of the chunk's last document, else 0
//   carry   in_last: what of the entering state survives the chunk
// Every exponent is a difference of at most 0. Sums reach thousands where differences around 1
// matter, so cs is added up in double and kept as two floats, high and low.
// All chunks are worked on at once; only the states pass from chunk to chunk, element by element.
#pragma once

#include "core/ops.h"
#include "cuda/common/launch.h"

namespace ft::cuda {

// A block of kSsdThreads computes a tile of kSsdTile x kSsdTile, 4 x 4 a thread.
inline constexpr int kSsdThreads = 256, kSsdTile = 64, kSsdStep = 16;
inline constexpr int kSsdWarps = kSsdThreads / kWarp;

struct SsdSizes {
  int64_t B, T, H, P, N, G, Q, length, chunks;  // length: tokens of a sequence
  int64_t q;          // at least the longest chunk, a multiple of 8: pitch
  int64_t per_group;  // heads of a group

  explicit SsdSizes(const ops::SsdInputs& in)
      : B(in.sequences),
        T(in.x.rows()),
        H(in.heads()),
        P(in.x.cols() / H),
        N(in.state),
        G(in.groups),
        Q(in.chunk),
        length(in.length()),
        chunks(blocks_of(length, Q)),
        q(blocks_of<int64_t>(std::min(Q, length), 8) * 8),
        per_group(H / G) {}
  __host__ __device__ int64_t state() const { return H * P * N; }  // elements of all heads' states
  __host__ __device__ int64_t all_chunks() const { return B * chunks; }
  __host__ __device__ int64_t vectors() const {
    return all_chunks() * H * q;
  }  // numbers, one a token and head
  __host__ __device__ int64_t scores() const {
    return all_chunks() * G * q * q;
  }  // numbers, a q x q a group
  __host__ __device__ int64_t row_tiles() const { return blocks_of<int64_t>(q, kSsdTile); }
  __host__ __device__ int64_t p_tiles() const { return blocks_of<int64_t>(P, kSsdTile); }
  __host__ __device__ int64_t n_tiles() const { return blocks_of<int64_t>(N, kSsdTile); }

  // Chunk `index` of all sequences' chunks.
  __device__ int64_t begin(int64_t index) const {
    return index / chunks * length + index % chunks * Q;
  }
  __device__ int tokens(int64_t index) const {
    return static_cast<int>(min(Q, length - index % chunks * Q));
  }
};

// Vectors of a chunk and head, at (chunk * H + head) * q.
struct SsdDecays {
  float2* cs;                     // high, low
  float *dt, *in, *out, *weight;  // weight: out_j dt_j

  static int64_t bytes(const SsdSizes& s) {
    return s.vectors() * static_cast<int64_t>(sizeof(float2) + 4 * sizeof(float));
  }
  SsdDecays(void* memory, const SsdSizes& s)
      : cs(static_cast<float2*>(memory)),
        dt(reinterpret_cast<float*>(cs + s.vectors())),
        in(dt + s.vectors()),
        out(in + s.vectors()),
        weight(out + s.vectors()) {}
  // Those of one chunk and head.
  __device__ SsdDecays at(int64_t offset) const {
    SsdDecays one = *this;
    one.cs += offset, one.dt += offset, one.in += offset;
    one.out += offset, one.weight += offset;
    return one;
  }
};

// NaN stays.
__device__ inline float ssd_exp(float exponent) { return expf(exponent > 0 ? 0.0f : exponent); }
// exp(a - b) of prefix sums a <= b.
__device__ inline float ssd_between(float2 a, float2 b) {
  return ssd_exp((a.x - b.x) + (a.y - b.y));
}
// A factor that is 0 masks even what is not finite.
__device__ inline float ssd_masked(float factor, float value) {
  return factor == 0 ? 0.0f : factor * value;
}

__device__ inline float ssd_softplus(float raw) { return raw > 20 ? raw : log1pf(expf(raw)); }
// NaN stays.
__device__ inline float ssd_limited(float soft, ops::DtLimits limits) {
  const float low = soft < limits.min ? limits.min : soft;
  return low > limits.max ? limits.max : low;
}

// What kernels read beside their own arguments.
template <class E>
struct SsdArgs {
  SsdSizes s;
  Rows<const E> x, b, c, dt;
  const float *dt_bias, *a_log, *d;
  const int32_t* docs;
  ops::DtLimits limits;
  SsdDecays decays;
  float* scores;  // C_i.B_j, [chunks of all sequences, G, q, q]

  SsdArgs(const ops::SsdInputs& in, const SsdSizes& sizes, void* decay_memory, float* score_memory)
      : s(sizes),
        x(rows_of<const E>(in.x)),
        b(rows_of<const E>(in.b)),
        c(rows_of<const E>(in.c)),
        dt(rows_of<const E>(in.dt)),
        dt_bias(ptr<const float>(in.dt_bias)),
        a_log(ptr<const float>(in.a_log)),
        d(ptr<const float>(in.d)),
        docs(ptr<const int32_t>(in.docs)),
        limits(in.limits),
        decays(decay_memory, sizes),
        scores(score_memory) {}
};

// -------------------------------------------------------------------------------------------------
// Tiles
// -------------------------------------------------------------------------------------------------

// Operands of one step, by contraction index.
struct SsdOperands {
  float a[kSsdStep][kSsdTile + 4], b[kSsdStep][kSsdTile + 4];
};
using SsdTileSum = float[4][4];

// A thread has rows ssd_row() + 0..3 and columns ssd_column() + 0..3 of a tile. The 16 threads of a
// row are neighbours.
__device__ inline int ssd_row() { return static_cast<int>(threadIdx.x) / 16 * 4; }
__device__ inline int ssd_column() { return static_cast<int>(threadIdx.x) % 16 * 4; }

// Which index of an operand is dense in memory; neighbouring threads read along it.
enum class Along { Tile, Step };

// One step's elements of an operand: load(m, k) of the tile's index m < 64 and contraction index k.
template <Along kAlong, class Load>
__device__ inline void ssd_fetch(const Load& load, int64_t step, int64_t end, float (&to)[4]) {
  const int t = static_cast<int>(threadIdx.x);
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    const int m = kAlong == Along::Tile ? t % kSsdTile : t / kSsdStep + r * kSsdStep;
    const int k = kAlong == Along::Tile ? t / kSsdTile + r * 4 : t % kSsdStep;
    to[r] = step + k < end ? load(m, step + k) : 0.0f;
  }
}
template <Along kAlong>
__device__ inline void ssd_put(const float (&from)[4], float (&to)[kSsdStep][kSsdTile + 4]) {
  const int t = static_cast<int>(threadIdx.x);
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    if constexpr (kAlong == Along::Tile) to[t / kSsdTile + r * 4][t % kSsdTile] = from[r];
    else to[t % kSsdStep][t / kSsdStep + r * kSsdStep] = from[r];
  }
}

// sum_ij += sum over k in [begin, end) of a(i, k) b(j, k), in the order of k. All threads call it,
// with the same range; loads give 0 outside of the tile's rows.
template <Along kA, Along kB, class A, class B>
__device__ void ssd_multiply(SsdOperands& s, int64_t begin, int64_t end, const A& a, const B& b,
                             SsdTileSum& sum) {
  float next_a[4], next_b[4];
  ssd_fetch<kA>(a, begin, end, next_a);
  ssd_fetch<kB>(b, begin, end, next_b);
  const int row = ssd_row(), column = ssd_column();
  for (int64_t step = begin; step < end; step += kSsdStep) {
    __syncthreads();  // everyone is done with the step before
    ssd_put<kA>(next_a, s.a);
    ssd_put<kB>(next_b, s.b);
    __syncthreads();
    ssd_fetch<kA>(a, step + kSsdStep, end, next_a);
    ssd_fetch<kB>(b, step + kSsdStep, end, next_b);
#pragma unroll
    for (int k = 0; k < kSsdStep; ++k) {
      const float4 va = *reinterpret_cast<const float4*>(&s.a[k][row]);
      const float4 vb = *reinterpret_cast<const float4*>(&s.b[k][column]);
      const float as[4] = {va.x, va.y, va.z, va.w}, bs[4] = {vb.x, vb.y, vb.z, vb.w};
#pragma unroll
      for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) sum[i][j] = fmaf(as[i], bs[j], sum[i][j]);
    }
  }
}

// f(i, j, sum) for each element of the tile that lies inside.
template <class F>
__device__ inline void ssd_each(const SsdTileSum& sum, int64_t rows, int64_t columns, const F& f) {
  const int row = ssd_row(), column = ssd_column();
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j)
      if (row + i < rows && column + j < columns) f(row + i, column + j, sum[i][j]);
}

// Sum over the 16 threads of a tile's row.
template <class V>
__device__ inline V ssd_row_sum(V value) {
#pragma unroll
  for (int offset = 8; offset > 0; offset /= 2) value += __shfl_xor_sync(~0u, value, offset);
  return value;
}

// -------------------------------------------------------------------------------------------------
// Kernels
// -------------------------------------------------------------------------------------------------

// A warp of lanes adds up in token order, restarting where `restart`; `carried` is the sum so far.
__device__ inline double ssd_scan(double value, bool restart, double carried) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
  for (int offset = 1; offset < kWarp; offset *= 2) {
    const double before = __shfl_up_sync(~0u, value, offset);
    const bool restarted = __shfl_up_sync(~0u, static_cast<int>(restart), offset) != 0;
    if (lane < offset) continue;
    if (!restart) value += before;
    restart = restart || restarted;
  }
  return restart ? value : value + carried;
}
__device__ inline double ssd_last_lane(double value) { return __shfl_sync(~0u, value, kWarp - 1); }

// The decays of one chunk and head, by a warp.
template <class E>
__global__ void __launch_bounds__(kSsdThreads) ssd_decays(SsdArgs<E> k) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kSsdWarps + threadIdx.x / kWarp;
  if (index >= k.s.all_chunks() * k.s.H) return;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int64_t chunk = index / k.s.H, head = index % k.s.H, begin = k.s.begin(chunk);
  const int q = k.s.tokens(chunk);
  const SsdDecays to = k.decays.at(index * k.s.q);
  const int32_t* docs = k.docs + begin;
  const double rate = -exp(static_cast<double>(k.a_log[head]));
  const float bias = k.dt_bias[head];
  double carried = 0;
  for (int base = 0; base < q; base += kWarp) {
    const int i = base + lane;
    const int64_t start = i < q ? docs[i] - begin : -1;
    float dt = 0;
    if (i < q)
      dt = ssd_limited(ssd_softplus(k.limits.scale * to_float(k.dt[begin + i][head]) + bias),
                       k.limits);
    const double sum = ssd_scan(i < q ? dt * rate : 0.0, start == i, carried);
    carried = ssd_last_lane(sum);
    if (i >= q) continue;
    const float high = static_cast<float>(sum);
    to.dt[i] = dt;
    to.cs[i] = {high, static_cast<float>(sum - high)};
    to.in[i] = start < 0 ? ssd_exp(high) : 0.0f;
  }
  const float high = static_cast<float>(carried);
  const float2 last = {high, static_cast<float>(carried - high)};
  const int64_t first = docs[q - 1] - begin;
  for (int j = lane; j < q; j += kWarp) {
    const float out = j >= first ? ssd_between(last, to.cs[j]) : 0.0f;
    to.out[j] = out, to.weight[j] = out * to.dt[j];
  }
}

// C B^T of one group and chunk: tiles on and below the diagonal.
template <class E>
__global__ void __launch_bounds__(kSsdThreads) ssd_scores(SsdArgs<E> k, int64_t tiles) {
  __shared__ SsdOperands shared;
  const int64_t J = blockIdx.x % tiles * kSsdTile, I = blockIdx.x / tiles % tiles * kSsdTile;
  const int64_t index = blockIdx.x / (tiles * tiles);  // of chunk and group
  const int64_t chunk = index / k.s.G, column = index % k.s.G * k.s.N;
  const int64_t begin = k.s.begin(chunk), q = k.s.tokens(chunk);
  if (J > I || I >= q) return;
  SsdTileSum sum = {};
  ssd_multiply<Along::Step, Along::Step>(
      shared, 0, k.s.N,
      [&](int i, int64_t n) { return I + i < q ? to_float(k.c[begin + I + i][column + n]) : 0.0f; },
      [&](int j, int64_t n) { return J + j < q ? to_float(k.b[begin + J + j][column + n]) : 0.0f; },
      sum);
  float* to = k.scores + index * k.s.q * k.s.q;
  ssd_each(sum, q - I, q - J, [&](int i, int j, float w) { to[(I + i) * k.s.q + J + j] = w; });
}

// -------------------------------------------------------------------------------------------------
// Launchers
// -------------------------------------------------------------------------------------------------

// Blocks of a grid; a grid holds 2^31 - 1.
inline unsigned ssd_grid(int64_t blocks) {
  FT_CHECK(blocks < (int64_t{1} << 31), "ssd: {} blocks are more than a grid holds", blocks);
  return static_cast<unsigned>(blocks);
}

template <class E>
void ssd_start_decays(const SsdArgs<E>& k, cudaStream_t on) {
  const int64_t blocks = blocks_of<int64_t>(k.s.all_chunks() * k.s.H, kSsdWarps);
  ssd_decays<E><<<ssd_grid(blocks), kSsdThreads, 0, on>>>(k);
  launched("ssd_decays");
}

template <class E>
void ssd_prepare(const SsdArgs<E>& k, cudaStream_t on) {
  const SsdSizes& s = k.s;
  const int64_t tiles = s.row_tiles();
  ssd_start_decays(k, on);
  ssd_scores<E><<<ssd_grid(s.all_chunks() * s.G * tiles * tiles), kSsdThreads, 0, on>>>(k, tiles);
  launched("ssd_scores");
}

}  // namespace ft::cuda
