// Causal depthwise convolution + SiLU; formulas and conventions in core/ops.h.
//   pre[t, c] = bias[c] + sum_s w[c, k-1-s] * scale(c) * x[t - s, c],  lags s inside the document
//   dpre      = dy * silu'(pre)
//   dx[t]     = scale * sum_s w[k-1-s] dpre[t + s]
//   dw[k-1-s] = scale * sum_t dpre[t] x[t - s]
// Work goes by blocks of kReduceBlock tokens of a sequence and strips of channels that stay in the
// cache. Backward computes dpre again for the k-1 tokens after its block.
#include "cpu/rows.h"

namespace ft::cpu {

namespace {

constexpr int64_t kStrip = 256;

struct Block {
  int64_t sequence, begin, end;  // tokens, relative to the sequence
};

// What both directions read: fp32 taps by lag, multiplied by their section's scale.
struct Plan {
  int64_t B, L, C, k;    // L: tokens of a sequence
  int64_t per_sequence;  // blocks
  const float* taps;     // [k][C], lag 0 first
  const float* bias;     // [C]
  const int32_t* docs;
  const Tensor& x;
  const std::optional<In>& history;

  int64_t blocks() const { return B * per_sequence; }
  Block block(int64_t i) const {
    const int64_t begin = i % per_sequence * kReduceBlock;
    return {i / per_sequence, begin, std::min(L, begin + kReduceBlock)};
  }
  // Tokens [begin - (k-1), end) of a sequence, channels [c, c + n), into rows of kStrip; zero
  // before what exists.
  void load_inputs(int64_t sequence, int64_t begin, int64_t end, int64_t c, int64_t n,
                   float* to) const {
    const Tensor own = x.columns(c, c + n);
    for (int64_t i = begin - (k - 1); i < end; ++i, to += kStrip) {
      if (i >= 0) load_row(own, sequence * L + i, n, to);
      else if (history) load_row(history->columns(c, c + n), (sequence + 1) * (k - 1) + i, n, to);
      else std::fill_n(to, n, 0.0f);
    }
  }
};

int section_of(const std::array<int64_t, 3>& sections, int64_t c) {
  return c < sections[0] ? 0 : c < sections[0] + sections[1] ? 1 : 2;
}

Plan prepare(const ops::Conv1dInputs& in) {
  const int64_t C = in.x.cols(), k = in.w.cols(), T = in.x.rows();
  float* taps = workspace_f32(kWideA, (k + 1) * C);
  for (int64_t c = 0; c < C; ++c) {
    const float scale = in.scales[section_of(in.sections, c)];
    for (int64_t lag = 0; lag < k; ++lag)
      taps[lag * C + c] = in.w.f32()[c * k + k - 1 - lag] * scale;
    taps[k * C + c] = in.bias ? in.bias->f32()[c] : 0.0f;
  }
  const int64_t L = T / in.sequences;
  return {in.sequences,  L,    C,         k, blocks_of(L, kReduceBlock), taps, taps + k * C,
          in.docs.i32(), in.x, in.history};
}

// to[c] = start[c] + sum over lags of taps[lag][c] * rows[lag][c]
template <int K>
void weigh_rows(const float* taps, int64_t stride, const float* const* rows, const float* start,
                int64_t n, float* to) {
#pragma omp simd
  for (int64_t c = 0; c < n; ++c) {
    float sum = start[c];
    for (int lag = 0; lag < K; ++lag) sum += taps[lag * stride + c] * rows[lag][c];
    to[c] = sum;
  }
}
void weigh(int64_t k, const float* taps, int64_t stride, const float* const* rows,
           const float* start, int64_t n, float* to) {
  if (k == 4) return weigh_rows<4>(taps, stride, rows, start, n, to);
  std::memmove(to, start, static_cast<size_t>(n) * sizeof(float));
  for (int64_t lag = 0; lag < k; ++lag) {
    const float *tap = taps + lag * stride, *from = rows[lag];
#pragma omp simd
    for (int64_t c = 0; c < n; ++c) to[c] += tap[c] * from[c];
  }
}

// Row pointers by lag, into `rows`: tokens t - lag of the tile whose row k-1 is `begin`.
void lagged_rows(const Plan& s, const float* inputs, int64_t sequence, int64_t begin, int64_t i,
                 const float* none, const float** rows) {
  const int64_t start = s.docs[sequence * s.L + i] - sequence * s.L;
  for (int64_t lag = 0; lag < s.k; ++lag)
    rows[lag] = i - lag >= start ? inputs + (i - lag - begin + s.k - 1) * kStrip : none;
}

struct Scratch {
  float *inputs, *dpre, *none, *line;
  const float** rows;
  static int64_t height(int64_t k) { return kReduceBlock + 2 * k; }
  static int64_t floats(int64_t k) { return (2 * height(k) + 2) * kStrip; }
  static int64_t pointers(int64_t k) { return k * static_cast<int64_t>(sizeof(float*)); }
  explicit Scratch(int64_t k) {
    const int64_t tall = height(k);
    float* memory = workspace_f32(kTile, floats(k));
    inputs = memory, dpre = inputs + tall * kStrip, none = dpre + tall * kStrip,
    line = none + kStrip;
    rows = static_cast<const float**>(workspace(kRowA, static_cast<size_t>(pointers(k))));
    std::fill_n(none, kStrip, 0.0f);
  }
};

// One block and strip of the gradient; sums [k + 1][C] get the block's dtaps and dbias.
void gradient_strip(const ops::Conv1dGrad& op, const Plan& s, const Block& b, int64_t c, int64_t n,
                    Scratch& tile, float* sums) {
  const int64_t after = std::min(s.L, b.end + s.k - 1), first = b.sequence * s.L;
  const Tensor dy = op.dy.columns(c, c + n), dx = op.dx.columns(c, c + n);
  s.load_inputs(b.sequence, b.begin, after, c, n, tile.inputs);
  for (int64_t lag = 0; lag <= s.k; ++lag) std::fill_n(sums + lag * s.C + c, n, 0.0f);
  for (int64_t i = b.begin; i < after; ++i) {
    float *d = tile.dpre + (i - b.begin) * kStrip, *g = tile.line;
    lagged_rows(s, tile.inputs, b.sequence, b.begin, i, tile.none, tile.rows);
    weigh(s.k, s.taps + c, s.C, tile.rows, s.bias + c, n, d);
    load_row(dy, first + i, n, g);
#pragma omp simd
    for (int64_t j = 0; j < n; ++j) d[j] = g[j] * silu_slope(d[j]);
    for (int64_t lag = 0; i < b.end && lag < s.k; ++lag) {
      float* sum = sums + lag * s.C + c;
      const float* in = tile.rows[lag];
#pragma omp simd
      for (int64_t j = 0; j < n; ++j) sum[j] += d[j] * in[j];
    }
    float* sum = sums + s.k * s.C + c;
    for (int64_t j = 0; i < b.end && j < n; ++j) sum[j] += d[j];
  }
  // Token i collects from those after it that see it; before the sequence, i < 0, this is the
  // history's gradient.
  for (int64_t i = b.begin == 0 && op.dhistory ? 1 - s.k : b.begin; i < b.end; ++i) {
    for (int64_t lag = 0; lag < s.k; ++lag) {
      const int64_t later = i + lag;
      const bool sees = later >= 0 && later < s.L && first + i >= s.docs[first + later];
      tile.rows[lag] = sees ? tile.dpre + (later - b.begin) * kStrip : tile.none;
    }
    float* to =
        i < 0 ? op.dhistory->f32() + ((b.sequence + 1) * (s.k - 1) + i) * s.C + c : tile.line;
    weigh(s.k, s.taps + c, s.C, tile.rows, tile.none, n, to);
    if (i >= 0) store_row(dx, first + i, n, to);
  }
}

// Taps, and each thread's tile: forward and backward alike.
void need_of_tiles(const ops::Conv1dInputs& in, WorkspaceNeed& n) {
  const int64_t k = in.w.cols();
  main_f32(n, kWideA, (k + 1) * in.x.cols());
  each_f32(n, {kTile}, Scratch::floats(k));
  n.each(kRowA, Scratch::pointers(k));
}

}  // namespace

template <>
void need(const ops::Conv1d& op, WorkspaceNeed& n) {
  need_of_tiles(op.in, n);
}

template <>
void run(const ops::Conv1d& op, Stream) {
  const Plan s = prepare(op.in);
  parallel_for(s.blocks(), [&](int64_t index) {
    Scratch tile(s.k);
    const Block b = s.block(index);
    for (int64_t c = 0; c < s.C; c += kStrip) {
      const int64_t n = std::min(kStrip, s.C - c);
      const Tensor y = op.y.columns(c, c + n);
      s.load_inputs(b.sequence, b.begin, b.end, c, n, tile.inputs);
      for (int64_t i = b.begin; i < b.end; ++i) {
        lagged_rows(s, tile.inputs, b.sequence, b.begin, i, tile.none, tile.rows);
        weigh(s.k, s.taps + c, s.C, tile.rows, s.bias + c, n, tile.line);
#pragma omp simd
        for (int64_t j = 0; j < n; ++j) tile.line[j] = silu(tile.line[j]);
        store_row(y, b.sequence * s.L + i, n, tile.line);
      }
    }
  });
}

template <>
void need(const ops::Conv1dGrad& op, WorkspaceNeed& n) {
  need_of_tiles(op.in, n);
  const ops::Conv1dInputs& in = op.in;
  const int64_t sums = (in.w.cols() + 1) * in.x.cols(), L = in.x.rows() / in.sequences;
  main_f32(n, kPartials, in.sequences * blocks_of(L, kReduceBlock) * sums);
  main_f32(n, kWideC, sums);
}

template <>
void run(const ops::Conv1dGrad& op, Stream) {
  const Plan s = prepare(op.in);
  const int64_t C = s.C, k = s.k;
  // dtaps [k][C] and dbias [C] of each block
  float* partial = workspace_f32(kPartials, s.blocks() * (k + 1) * C);
  parallel_for(s.blocks(), [&](int64_t index) {
    Scratch tile(k);
    for (int64_t c = 0; c < C; c += kStrip)
      gradient_strip(op, s, s.block(index), c, std::min(kStrip, C - c), tile,
                     partial + index * (k + 1) * C);
  });
  float* sums = workspace_f32(kWideC, (k + 1) * C);
  fold(partial, s.blocks(), (k + 1) * C, Grad::Overwrite, 1, sums);
  const bool add = op.grad == Grad::Accumulate;
  for (int64_t c = 0; c < C; ++c) {
    const float scale = op.in.scales[section_of(op.in.sections, c)];
    for (int64_t lag = 0; lag < k; ++lag) {
      float& to = op.dw.f32()[c * k + k - 1 - lag];
      to = (add ? to : 0) + scale * sums[lag * C + c];
    }
    if (op.dbias) op.dbias->f32()[c] = (add ? op.dbias->f32()[c] : 0) + sums[k * C + c];
  }
}

}  // namespace ft::cpu
