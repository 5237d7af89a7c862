// SSD forward, all chunks at once:  Z = sum_j out_j dt_j x_j B_j^T, what a chunk adds to the state;
//   S <- carry S + Z from chunk to chunk;  y_i = in_i S C_i + sum_j M_ij (C_i.B_j) dt_j x_j + D x_i
#include "cuda/ssd/forward_mma.h"
#include "cuda/ssd/pass.h"
#include "cuda/ssd_common.h"

namespace ft::cuda {

namespace {

// -------------------------------------------------------------------------------------------------
// Kernels
// -------------------------------------------------------------------------------------------------

// Z of each chunk and head, to where the state lies that it becomes a part of: the one entering the
// next chunk, or the final one.
template <class E>
__global__ void __launch_bounds__(kSsdThreads)
    ssd_additions(SsdArgs<E> k, float* states, float* final, int64_t n_tiles, int64_t p_tiles) {
  __shared__ SsdOperands shared;
  const int64_t n0 = blockIdx.x % n_tiles * kSsdTile,
                p0 = blockIdx.x / n_tiles % p_tiles * kSsdTile;
  const int64_t index = blockIdx.x / (n_tiles * p_tiles);  // of chunk and head
  const int64_t chunk = index / k.s.H, head = index % k.s.H, begin = k.s.begin(chunk);
  const bool last = chunk % k.s.chunks == k.s.chunks - 1;
  if (last && !final) return;
  const int64_t P = k.s.P, N = k.s.N, group = head / k.s.per_group;
  const SsdDecays v = k.decays.at(index * k.s.q);
  SsdTileSum sum = {};
  ssd_multiply<Along::Tile, Along::Tile>(
      shared, 0, k.s.tokens(chunk),
      [&](int p, int64_t j) {
        if (p0 + p >= P) return 0.0f;
        return v.weight[j] * to_float(k.x[begin + j][head * P + p0 + p]);
      },
      [&](int n, int64_t j) {
        return n0 + n < N ? to_float(k.b[begin + j][group * N + n0 + n]) : 0.0f;
      },
      sum);
  float* to = last ? final + chunk / k.s.chunks * k.s.state() : states + (chunk + 1) * k.s.state();
  to += head * P * N;
  ssd_each(sum, P - p0, N - n0, [&](int p, int n, float z) { to[(p0 + p) * N + n0 + n] = z; });
}

template <class E>
__global__ void __launch_bounds__(kSsdThreads)
    ssd_output(SsdArgs<E> k, const float* states, Rows<E> y, int64_t i_tiles, int64_t p_tiles) {
  __shared__ SsdOperands shared;
  const int64_t I = blockIdx.x % i_tiles * kSsdTile, p0 = blockIdx.x / i_tiles % p_tiles * kSsdTile;
  const int64_t index = blockIdx.x / (i_tiles * p_tiles);  // of chunk and head
  const int64_t chunk = index / k.s.H, head = index % k.s.H, begin = k.s.begin(chunk);
  const int64_t q = k.s.tokens(chunk), P = k.s.P, N = k.s.N, group = head / k.s.per_group;
  if (I >= q) return;
  const SsdDecays v = k.decays.at(index * k.s.q);
  const float* state = states + chunk * k.s.state() + head * P * N;
  const float* scores = k.scores + (chunk * k.s.G + group) * k.s.q * k.s.q;
  SsdTileSum sum = {};
  ssd_multiply<Along::Step, Along::Step>(
      shared, 0, N,
      [&](int i, int64_t n) {
        return I + i < q ? to_float(k.c[begin + I + i][group * N + n]) : 0.0f;
      },
      [&](int p, int64_t n) { return p0 + p < P ? state[(p0 + p) * N + n] : 0.0f; }, sum);
  for (int u = 0; u < 4; ++u) {
    const int64_t i = I + ssd_row() + u;
    for (int w = 0; w < 4; ++w) sum[u][w] = ssd_masked(i < q ? v.in[i] : 0.0f, sum[u][w]);
  }
  ssd_multiply<Along::Step, Along::Tile>(
      shared, 0, min(q, I + kSsdTile),
      [&](int r, int64_t j) {
        const int64_t i = I + r;
        if (i >= q || j > i || k.docs[begin + i] > begin + j) return 0.0f;
        return ssd_between(v.cs[i], v.cs[j]) * scores[i * k.s.q + j] * v.dt[j];
      },
      [&](int p, int64_t j) {
        return p0 + p < P ? to_float(k.x[begin + j][head * P + p0 + p]) : 0.0f;
      },
      sum);
  const float d = k.d[head];
  ssd_each(sum, q - I, P - p0, [&](int i, int p, float value) {
    const int64_t column = head * P + p0 + p, token = begin + I + i;
    y[token][column] = from_float<E>(value + d * to_float(k.x[token][column]));
  });
}

// -------------------------------------------------------------------------------------------------
// Launchers
// -------------------------------------------------------------------------------------------------

enum Slot { kDecays, kScores };

template <class E>
void forward_tiles(const SsdArgs<E>& k, float* states, const float* initial, float* final,
                   Rows<E> y, cudaStream_t on) {
  const SsdSizes& s = k.s;
  const int64_t n_tiles = s.n_tiles(), p_tiles = s.p_tiles(), i_tiles = s.row_tiles();
  ssd_prepare(k, on);
  ssd_additions<E><<<ssd_grid(s.all_chunks() * s.H * n_tiles * p_tiles), kSsdThreads, 0, on>>>(
      k, states, final, n_tiles, p_tiles);
  launched("ssd_additions");
  ssd_start_pass<1, false>(s, k.decays, states, initial, final, on);
  ssd_output<E><<<ssd_grid(s.all_chunks() * s.H * i_tiles * p_tiles), kSsdThreads, 0, on>>>(
      k, states, y, i_tiles, p_tiles);
  launched("ssd_output");
}

template <class E>
void forward(const ops::Ssd& op, Stream stream) {
  const SsdSizes s(op.in);
  const cudaStream_t on = stream_of(stream);
  const SsdArgs<E> k(op.in, s, workspace(stream, kDecays, SsdDecays::bytes(s)),
                     workspace<float>(stream, kScores, s.scores()));
  float* states = ptr<float>(op.states);
  float* final = op.final_state ? ptr<float>(*op.final_state) : nullptr;
  const float* initial = op.initial_state ? ptr<const float>(*op.initial_state) : nullptr;
  if constexpr (std::is_same_v<E, bfloat16>)
    if (mma_fits(op)) return mma_forward(op, k, states, initial, final, on);
  forward_tiles(k, states, initial, final, rows_of<E>(op.y), on);
}

}  // namespace

template <>
void need(const ops::Ssd& op, WorkspaceNeed& n) {
  const SsdSizes s(op.in);
  need_workspace(n, kDecays, SsdDecays::bytes(s));
  need_workspace(n, kScores, s.scores() * static_cast<int64_t>(sizeof(float)));
}

template <>
void run(const ops::Ssd& op, Stream stream) {
  if (op.in.x.rows() == 0) return;
  with_float(op.in.x.dtype, [&](auto e) { forward<decltype(e)>(op, stream); });
}

}  // namespace ft::cuda
