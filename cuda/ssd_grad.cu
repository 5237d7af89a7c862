// SSD backward, all chunks at once, with K the gradient of the state that leaves a chunk:
//   K of the previous chunk = carry K + sum_i in_i dy_i C_i^T
//   dS_ij = dy_i.u_j (u = dt x);  T_ij = M_ij (C_i.B_j) dS_ij
//   R_ij = sum over the group's heads of M_ij dS_ij
//   du_j = out_j K B_j + sum_i M_ij (C_i.B_j) dy_i;   dx_j = dt_j du_j + D dy_j
//   dC_i = sum over heads of in_i S^T dy_i + sum_j R_ij B_j
//   dB_j = sum over heads of out_j K^T u_j + sum_i R_ij C_i
//   d(dt A)_t = sum_{i >= t} (r_i - k_i + o_i) + sum_{j < t} q_j + carry <K, S>
//     r_i = sum_j T_ij, k_j = sum_i T_ij, o_i = in_i dy_i.(S C_i), q_j = out_j u_j.(K B_j)
//   dA_log = sum_t dt_t A d(dt A)_t
// r and k are sums in double of the same fp32 T, so their differences keep fp32's digits.
#include "cuda/ssd/backward_mma.h"
#include "cuda/ssd/pass.h"
#include "cuda/ssd_common.h"

namespace ft::cuda {

namespace {

// -------------------------------------------------------------------------------------------------
// Kernels: the gradient of states
// -------------------------------------------------------------------------------------------------

// What a chunk adds to the K of the one before, to where that lies.
template <class E>
__global__ void __launch_bounds__(kSsdThreads)
    additions(SsdGradArgs<E> k, float* dinitial, int64_t n_tiles, int64_t p_tiles) {
  __shared__ SsdOperands shared;
  const int64_t n0 = blockIdx.x % n_tiles * kSsdTile,
                p0 = blockIdx.x / n_tiles % p_tiles * kSsdTile;
  const int64_t index = blockIdx.x / (n_tiles * p_tiles);  // of chunk and head
  const int64_t chunk = index / k.s.H, head = index % k.s.H, begin = k.s.begin(chunk);
  const bool first = chunk % k.s.chunks == 0;
  if (first && !dinitial) return;
  const int64_t P = k.s.P, N = k.s.N, group = head / k.s.per_group;
  const float* in = k.decays.at(index * k.s.q).in;
  SsdTileSum sum = {};
  ssd_multiply<Along::Tile, Along::Tile>(
      shared, 0, k.s.tokens(chunk),
      [&](int p, int64_t i) {
        return p0 + p < P ? in[i] * to_float(k.dy[begin + i][head * P + p0 + p]) : 0.0f;
      },
      [&](int n, int64_t i) {
        return n0 + n < N ? to_float(k.c[begin + i][group * N + n0 + n]) : 0.0f;
      },
      sum);
  float* to =
      first ? dinitial + chunk / k.s.chunks * k.s.state() : k.leaving + (chunk - 1) * k.s.state();
  to += head * P * N;
  ssd_each(sum, P - p0, N - n0, [&](int p, int n, float z) { to[(p0 + p) * N + n0 + n] = z; });
}

// carry <K, S> of a chunk and head.
template <class E>
__global__ void __launch_bounds__(kSsdThreads) through_chunk(SsdGradArgs<E> k) {
  const int64_t index = blockIdx.x, chunk = index / k.s.H, head = index % k.s.H;
  const float carry = k.decays.at(index * k.s.q).in[k.s.tokens(chunk) - 1];
  const int64_t elements = k.s.P * k.s.N, from = chunk * k.s.state() + head * elements;
  double sum = 0;
  if (carry != 0)
    for (int64_t i = threadIdx.x; i < elements; i += kSsdThreads)
      sum += k.leaving[from + i] * k.states[from + i];
  sum = block_sum<kSsdThreads>(sum);
  if (threadIdx.x == 0) k.parts.e[index] = carry != 0 ? carry * sum : 0;
}

// -------------------------------------------------------------------------------------------------
// Kernels: inside a chunk
// -------------------------------------------------------------------------------------------------

// Sums of a tile of T over its rows and its columns, to the parts r and k.
template <class E>
__device__ void store_sums(const SsdGradArgs<E>& k, const SsdTileSum& t, int64_t vector, int64_t I,
                           int64_t J, int64_t q, double (&columns)[kSsdWarps][kSsdTile]) {
  const int row = ssd_row(), column = ssd_column();
#pragma unroll
  for (int u = 0; u < 4; ++u) {
    const double sum = ssd_row_sum(((static_cast<double>(t[u][0]) + t[u][1]) + t[u][2]) + t[u][3]);
    const int64_t i = I + row + u;
    if (column == 0 && i < q) k.parts.r[J / kSsdTile * k.parts.pitch + vector + i] = sum;
  }
  __syncthreads();  // everyone has read the columns of the head before
#pragma unroll
  for (int w = 0; w < 4; ++w) {
    double sum = ((static_cast<double>(t[0][w]) + t[1][w]) + t[2][w]) + t[3][w];
    sum += __shfl_xor_sync(~0u, sum, 16);
    if (threadIdx.x % kWarp < 16) columns[threadIdx.x / kWarp][column + w] = sum;
  }
  __syncthreads();
  const int j = static_cast<int>(threadIdx.x);
  if (j >= kSsdTile || J + j >= q) return;
  double sum = columns[0][j];
  for (int w = 1; w < kSsdWarps; ++w) sum += columns[w][j];
  k.parts.k[I / kSsdTile * k.parts.pitch + vector + J + j] = sum;
}

// A tile of R, head by head, and the sums of T.
template <class E>
__global__ void __launch_bounds__(kSsdThreads, 2) inside(SsdGradArgs<E> k, int64_t tiles) {
  __shared__ SsdOperands shared;
  __shared__ double columns[kSsdWarps][kSsdTile];
  const int64_t J = blockIdx.x % tiles * kSsdTile, I = blockIdx.x / tiles % tiles * kSsdTile;
  const int64_t index = blockIdx.x / (tiles * tiles);  // of chunk and group
  const int64_t chunk = index / k.s.G, group = index % k.s.G, begin = k.s.begin(chunk);
  const int64_t q = k.s.tokens(chunk), P = k.s.P;
  if (J > I || I >= q) return;
  const float* scores = k.scores + index * k.s.q * k.s.q;
  SsdTileSum mixed = {};
  for (int64_t head = group * k.s.per_group; head < (group + 1) * k.s.per_group; ++head) {
    const int64_t vector = (chunk * k.s.H + head) * k.s.q;
    const SsdDecays v = k.decays.at(vector);
    SsdTileSum t = {};
    ssd_multiply<Along::Step, Along::Step>(
        shared, 0, P,
        [&](int i, int64_t p) {
          return I + i < q ? to_float(k.dy[begin + I + i][head * P + p]) : 0.0f;
        },
        [&](int j, int64_t p) {
          return J + j < q ? to_float(k.x[begin + J + j][head * P + p]) : 0.0f;
        },
        t);
    for (int u = 0; u < 4; ++u)
      for (int w = 0; w < 4; ++w) {
        const int64_t i = I + ssd_row() + u, j = J + ssd_column() + w;
        float decayed = 0, score = 0;
        if (i < q && j <= i && k.docs[begin + i] <= begin + j) {
          decayed = ssd_between(v.cs[i], v.cs[j]) * v.dt[j] * t[u][w];
          score = scores[i * k.s.q + j];
        }
        mixed[u][w] += decayed;
        t[u][w] = decayed * score;
      }
    store_sums(k, t, vector, I, J, q, columns);
  }
  float* to = k.mixed + index * k.s.q * k.s.q;
  ssd_each(mixed, q - I, q - J, [&](int i, int j, float r) { to[(I + i) * k.s.q + J + j] = r; });
}

// Sums over a tile's columns of f(row, column, sum), to `to`[row].
template <class F>
__device__ void store_row_sums(const SsdTileSum& sum, int64_t rows, int64_t columns, float* to,
                               const F& f) {
  const int row = ssd_row(), column = ssd_column();
#pragma unroll
  for (int u = 0; u < 4; ++u) {
    float total = 0;
    for (int w = 0; w < 4; ++w)
      if (row + u < rows && column + w < columns) total += f(row + u, column + w, sum[u][w]);
    total = ssd_row_sum(total);
    if (column == 0 && row + u < rows) to[row + u] = total;
  }
}

// dx of a tile of tokens, and what its tokens add to the sums.
template <class E>
__global__ void __launch_bounds__(kSsdThreads, 2)
    inputs(SsdGradArgs<E> k, Rows<E> dx, int64_t j_tiles, int64_t p_tiles) {
  __shared__ SsdOperands shared;
  const int64_t J = blockIdx.x % j_tiles * kSsdTile, tile = blockIdx.x / j_tiles % p_tiles;
  const int64_t index = blockIdx.x / (j_tiles * p_tiles), p0 = tile * kSsdTile;
  const int64_t chunk = index / k.s.H, head = index % k.s.H, begin = k.s.begin(chunk);
  const int64_t q = k.s.tokens(chunk), P = k.s.P, N = k.s.N, group = head / k.s.per_group;
  if (J >= q) return;
  const int64_t vector = index * k.s.q, part = tile * k.parts.pitch + vector + J;
  const SsdDecays v = k.decays.at(vector);
  const int64_t state = chunk * k.s.state() + head * P * N;
  const float* scores = k.scores + (chunk * k.s.G + group) * k.s.q * k.s.q;
  const int64_t rows = q - J, columns = P - p0, column = head * P + p0;
  const auto x = [&](int j, int p) { return to_float(k.x[begin + J + j][column + p]); };
  const auto dy = [&](int j, int p) { return to_float(k.dy[begin + J + j][column + p]); };
  const auto of_states = [&](const Rows<const E>& tokens, const float* from, SsdTileSum& sum) {
    ssd_multiply<Along::Step, Along::Step>(
        shared, 0, N,
        [&](int j, int64_t n) {
          return j < rows ? to_float(tokens[begin + J + j][group * N + n]) : 0.0f;
        },
        [&](int p, int64_t n) { return p < columns ? from[(p0 + p) * N + n] : 0.0f; }, sum);
  };
  SsdTileSum sum = {};
  of_states(k.c, k.states + state, sum);  // S C
  store_row_sums(sum, rows, columns, k.parts.o + part, [&](int i, int p, float value) {
    return ssd_masked(v.in[J + i], value) * dy(i, p);
  });
  for (auto& row : sum)
    for (float& value : row) value = 0;
  of_states(k.b, k.leaving + state, sum);  // K B
  store_row_sums(sum, rows, columns, k.parts.q + part,
                 [&](int j, int p, float value) { return v.weight[J + j] * value * x(j, p); });
  for (int u = 0; u < 4; ++u) {
    const int64_t j = J + ssd_row() + u;
    for (int w = 0; w < 4; ++w) sum[u][w] = ssd_masked(j < q ? v.out[j] : 0.0f, sum[u][w]);
  }
  ssd_multiply<Along::Tile, Along::Tile>(
      shared, J, q,
      [&](int r, int64_t i) {
        const int64_t j = J + r;
        if (j > i || k.docs[begin + i] > begin + j) return 0.0f;
        return ssd_between(v.cs[i], v.cs[j]) * scores[i * k.s.q + j];
      },
      [&](int p, int64_t i) { return p < columns ? to_float(k.dy[begin + i][column + p]) : 0.0f; },
      sum);
  store_row_sums(sum, rows, columns, k.parts.ux + part,
                 [&](int j, int p, float du) { return du * x(j, p); });
  store_row_sums(sum, rows, columns, k.parts.yx + part,
                 [&](int j, int p, float) { return dy(j, p) * x(j, p); });
  const float d = k.d[head];
  ssd_each(sum, rows, columns, [&](int j, int p, float du) {
    dx[begin + J + j][column + p] = from_float<E>(v.dt[J + j] * du + d * dy(j, p));
  });
}

// dC where kEntering, else dB: a tile of tokens and of N, head by head.
template <class E, bool kEntering>
__global__ void __launch_bounds__(kSsdThreads)
    group_inputs(SsdGradArgs<E> k, Rows<E> to, int64_t i_tiles, int64_t n_tiles) {
  __shared__ SsdOperands shared;
  const int64_t I = blockIdx.x % i_tiles * kSsdTile, n0 = blockIdx.x / i_tiles % n_tiles * kSsdTile;
  const int64_t index = blockIdx.x / (i_tiles * n_tiles);  // of chunk and group
  const int64_t chunk = index / k.s.G, group = index % k.s.G, begin = k.s.begin(chunk);
  const int64_t q = k.s.tokens(chunk), P = k.s.P, N = k.s.N, column = group * N + n0;
  if (I >= q) return;
  const int64_t rows = q - I, columns = N - n0;
  const Rows<const E> tokens = kEntering ? k.dy : k.x;
  SsdTileSum sum = {};
  for (int64_t head = group * k.s.per_group; head < (group + 1) * k.s.per_group; ++head) {
    const SsdDecays v = k.decays.at((chunk * k.s.H + head) * k.s.q);
    const float* state = (kEntering ? k.states : k.leaving) + chunk * k.s.state() + head * P * N;
    ssd_multiply<Along::Step, Along::Tile>(
        shared, 0, P,
        [&](int i, int64_t p) {
          if (i >= rows) return 0.0f;
          const float factor = kEntering ? v.in[I + i] : v.weight[I + i];
          return factor * to_float(tokens[begin + I + i][head * P + p]);
        },
        [&](int n, int64_t p) { return n < columns ? state[p * N + n0 + n] : 0.0f; }, sum);
  }
  const float* mixed = k.mixed + index * k.s.q * k.s.q;
  const Rows<const E> others = kEntering ? k.b : k.c;
  const auto other = [&](int n, int64_t j) {
    return n < columns ? to_float(others[begin + j][column + n]) : 0.0f;
  };
  if constexpr (kEntering)
    ssd_multiply<Along::Step, Along::Tile>(
        shared, 0, min(q, I + kSsdTile),
        [&](int i, int64_t j) { return i < rows ? mixed[(I + i) * k.s.q + j] : 0.0f; }, other, sum);
  else
    ssd_multiply<Along::Tile, Along::Tile>(
        shared, I, q, [&](int j, int64_t i) { return j < rows ? mixed[i * k.s.q + I + j] : 0.0f; },
        other, sum);
  ssd_each(sum, rows, columns, [&](int i, int n, float value) {
    to[begin + I + i][column + n] = from_float<E>(value);
  });
}

// -------------------------------------------------------------------------------------------------
// Launchers
// -------------------------------------------------------------------------------------------------

enum Slot { kDecays, kScores, kLeaving, kParts };  // kScores holds R, too

template <class E>
void state_gradients(const ops::SsdGrad& op, const SsdGradArgs<E>& k, cudaStream_t on) {
  const SsdSizes& s = k.s;
  const int64_t n_tiles = s.n_tiles(), p_tiles = s.p_tiles();
  float* dinitial = op.dinitial_state ? ptr<float>(*op.dinitial_state) : nullptr;
  const float* dfinal = op.dfinal_state ? ptr<const float>(*op.dfinal_state) : nullptr;
  additions<E><<<ssd_grid(s.all_chunks() * s.H * n_tiles * p_tiles), kSsdThreads, 0, on>>>(
      k, dinitial, n_tiles, p_tiles);
  launched("ssd additions");
  ssd_start_pass<1, true>(s, k.decays, k.leaving, dfinal, dinitial, on);
  through_chunk<E><<<ssd_grid(s.all_chunks() * s.H), kSsdThreads, 0, on>>>(k);
  launched("ssd through_chunk");
}

template <class E>
void input_gradients(const ops::SsdGrad& op, const SsdGradArgs<E>& k, cudaStream_t on) {
  const SsdSizes& s = k.s;
  const int64_t tiles = s.row_tiles(), n_tiles = s.n_tiles(), p_tiles = s.p_tiles();
  inside<E><<<ssd_grid(s.all_chunks() * s.G * tiles * tiles), kSsdThreads, 0, on>>>(k, tiles);
  launched("ssd inside");
  inputs<E><<<ssd_grid(s.all_chunks() * s.H * tiles * p_tiles), kSsdThreads, 0, on>>>(
      k, rows_of<E>(op.dx), tiles, p_tiles);
  launched("ssd inputs");
  const unsigned blocks = ssd_grid(s.all_chunks() * s.G * tiles * n_tiles);
  group_inputs<E, true><<<blocks, kSsdThreads, 0, on>>>(k, rows_of<E>(op.dc), tiles, n_tiles);
  group_inputs<E, false><<<blocks, kSsdThreads, 0, on>>>(k, rows_of<E>(op.db), tiles, n_tiles);
  launched("ssd group_inputs");
}

// What both ways share; K is the dtype of the gradients of states.
template <class E, class K>
SsdGradArgs<E, K> arguments(const ops::SsdGrad& op, const SsdSizes& s, Stream stream) {
  float* scores = workspace<float>(stream, kScores, 2 * s.scores());
  return {{op.in, s, workspace(stream, kDecays, SsdDecays::bytes(s)), scores},
          rows_of<const E>(op.dy),
          ptr<const float>(op.states),
          workspace<K>(stream, kLeaving, s.all_chunks() * s.state()),
          scores + s.scores(),
          SsdParts(workspace(stream, kParts, SsdParts::bytes(s)), s)};
}

template <class E>
void backward(const ops::SsdGrad& op, Stream stream) {
  const SsdSizes s(op.in);
  const cudaStream_t on = stream_of(stream);
  if constexpr (std::is_same_v<E, bfloat16>)
    if (mma_fits(op)) return mma_backward(op, arguments<E, bfloat16>(op, s, stream), on);
  const SsdGradArgs<E> k = arguments<E, float>(op, s, stream);
  ssd_prepare<E>(k, on);
  state_gradients(op, k, on);
  input_gradients(op, k, on);
  ssd_start_sums(op, k, on);
}

}  // namespace

template <>
void need(const ops::SsdGrad& op, WorkspaceNeed& n) {
  const SsdSizes s(op.in);
  constexpr int64_t kFloat = sizeof(float);
  need_workspace(n, kDecays, SsdDecays::bytes(s));
  need_workspace(n, kScores, 2 * s.scores() * kFloat);
  need_workspace(n, kLeaving, s.all_chunks() * s.state() * (mma_fits(op) ? 2 : kFloat));
  need_workspace(n, kParts, SsdParts::bytes(s));
}

template <>
void run(const ops::SsdGrad& op, Stream stream) {
  if (op.in.x.rows() == 0) return;
  with_float(op.in.x.dtype, [&](auto e) { backward<decltype(e)>(op, stream); });
}

}  // namespace ft::cuda
