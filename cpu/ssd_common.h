// One chunk of one head, widened to fp32. Names follow the comment of ops::Ssd; a chunk has
// q <= chunk tokens.
//   cs_i    inclusive prefix sum of dt A inside the chunk, restarted at documents
//   M_ij    exp(cs_i - cs_j) where j <= i are of one document, else 0
//   in_i    exp(cs_i) where token i still sees the state that enters the chunk
//   out_j   exp(cs_last - cs_j) where token j is of the chunk's last document
//   carry   exp(cs_last) where the entering state survives the chunk
// Every exponent is a difference of at most 0. Sums reach thousands where what matters are
// differences around 1, so a sum is kept as two floats, high and low, and a difference of sums
// keeps fp32's digits at any chunk.
// Tiles are padded with zeros to whole panels of micro_kernels.h, so no product has an edge case.
#pragma once

#include "cpu/rows.h"
#include "cpu/gemm/micro_kernels.h"

namespace ft::cpu {

// Heads of one group that a task takes together: they share C B^T and the sum of M dS.
inline constexpr int64_t kSsdHeadBlock = 4;

struct SsdSizes {
  int64_t B, T, H, P, N, G, Q, length, chunks;  // length: tokens of a sequence
  int64_t lp, ln, lq;                           // row strides of tiles P, N and Q wide
  int64_t per_group, blocks;                    // heads and head blocks of a group
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
        lp(tile_stride(P)),
        ln(tile_stride(N)),
        lq(tile_stride(std::min(Q, length))),
        per_group(H / G),
        blocks(blocks_of(per_group, kSsdHeadBlock)) {}
  int64_t padded_q() const { return padded(std::min(Q, length)); }
  int64_t tasks() const { return B * G * blocks; }
};

// What a task works on: heads [first, end) of group g in one sequence.
struct SsdTask {
  int64_t sequence, g, first, end;
  SsdTask(const SsdSizes& s, int64_t index)
      : sequence(index / (s.G * s.blocks)),
        g(index / s.blocks % s.G),
        first(g * s.per_group + index % s.blocks * kSsdHeadBlock),
        end(std::min((g + 1) * s.per_group, first + kSsdHeadBlock)) {}
};

// Hands out pieces of one block of memory, 64-byte aligned.
struct Carver {
  float* next;
  float* take(int64_t count) {
    float* piece = next;
    next += padded(count);
    return piece;
  }
};

// Columns [first, first + width) of tokens [begin, begin + q) as a tile; padding becomes zero.
inline void load_tile_rows(const Tensor& t, int64_t first, int64_t width, int64_t begin, int64_t q,
                           int64_t stride, float* to) {
  const Tensor columns = t.columns(first, first + width);
  for (int64_t i = 0; i < padded(q); ++i) {
    float* row_i = to + i * stride;
    if (i < q) load_row(columns, begin + i, width, row_i);
    std::fill(row_i + (i < q ? width : 0), row_i + padded(width), 0.0f);
  }
}

// A head's dense [P, N] state as a padded tile, and a tile's transpose.
inline void load_state(const SsdSizes& s, const float* from, float* to) {
  for (int64_t p = 0; p < padded(s.P); ++p) {
    float* row_p = to + p * s.ln;
    if (p < s.P) std::memmove(row_p, from + p * s.N, static_cast<size_t>(s.N) * sizeof(float));
    std::fill(row_p + (p < s.P ? s.N : 0), row_p + padded(s.N), 0.0f);
  }
}
inline void store_state(const SsdSizes& s, const float* from, float* to) {
  for (int64_t p = 0; p < s.P; ++p)
    std::memmove(to + p * s.N, from + p * s.ln, static_cast<size_t>(s.N) * sizeof(float));
}

inline float softplus(float raw) { return raw > 20 ? raw : std::log1p(std::exp(raw)); }

// B, C and C B^T of one group; shared by its heads.
struct SsdGroupChunk {
  int64_t begin, q;            // first token (of all), tokens
  float *b, *c, *bt, *scores;  // [q, N], [q, N], [N, q], [q, q] lower

  static int64_t floats(const SsdSizes& s) {
    return 2 * s.padded_q() * s.ln + padded(s.N) * s.lq + s.padded_q() * s.lq;
  }
  void carve(const SsdSizes& s, Carver& from) {
    b = from.take(s.padded_q() * s.ln), c = from.take(s.padded_q() * s.ln);
    bt = from.take(padded(s.N) * s.lq), scores = from.take(s.padded_q() * s.lq);
  }
  void load_from(const ops::SsdInputs& in, const SsdSizes& s, const SsdTask& task, int64_t chunk) {
    begin = task.sequence * s.length + chunk * s.Q;
    q = std::min(s.Q, s.length - chunk * s.Q);
    load_tile_rows(in.b, task.g * s.N, s.N, begin, q, s.ln, b);
    load_tile_rows(in.c, task.g * s.N, s.N, begin, q, s.ln, c);
    transpose(b, s.ln, padded(q), padded(s.N), bt, s.lq);
    matmul<Shape::LowerResult>(padded(q), padded(q), padded(s.N), {c, s.ln, 1}, bt, s.lq, scores,
                               s.lq, false);
  }
};

// The vectors of one head over a chunk, zero beyond q.
struct SsdHeadChunk {
  float *raw, *dt, *high, *low, *in, *out;  // cs = high + low
  float *column, *decay;                    // scratch of decay_row
  int64_t* first;                           // first token of i's document in the chunk, relative
  float carry, a, d;

  static int64_t floats(const SsdSizes& s) { return 10 * s.padded_q(); }
  void carve(const SsdSizes& s, Carver& from) {
    for (float** v : {&raw, &dt, &high, &low, &in, &out, &column, &decay})
      *v = from.take(s.padded_q());
    first = reinterpret_cast<int64_t*>(from.take(2 * s.padded_q()));
  }

  // cs_i - cs_j
  float between(int64_t i, int64_t j) const { return (high[i] - high[j]) + (low[i] - low[j]); }

  void load_from(const ops::SsdInputs& from, int64_t begin, int64_t q, int64_t head) {
    const double rate = -std::exp(static_cast<double>(from.a_log.f32()[head]));
    a = static_cast<float>(rate);
    d = from.d.f32()[head];
    const float bias = from.dt_bias.f32()[head];
    with_type(from.dt.dtype, [&](auto e) {
      for (int64_t i = 0; i < q; ++i)
        raw[i] = from.limits.scale * to_float(row<decltype(e)>(from.dt, begin + i)[head]) + bias;
    });
    const int32_t* docs = from.docs.i32() + begin;
    double sum = 0;
    for (int64_t i = 0; i < q; ++i) {
      dt[i] = std::min(std::max(softplus(raw[i]), from.limits.min), from.limits.max);
      const int64_t start = docs[i] - begin;  // negative: the document began before the chunk
      first[i] = std::max<int64_t>(start, 0);
      sum = (start == i ? 0.0 : sum) + dt[i] * rate;
      high[i] = static_cast<float>(sum), low[i] = static_cast<float>(sum - high[i]);
      in[i] = start < 0 ? exp_f(std::min(high[i], 0.0f)) : 0.0f;
    }
    const int64_t last = q - 1;
    for (int64_t j = 0; j < q; ++j)
      out[j] = j >= first[last] ? exp_f(std::min(between(last, j), 0.0f)) : 0.0f;
    carry = in[last];
    for (int64_t i = q; i < padded(q); ++i) {
      raw[i] = dt[i] = in[i] = out[i] = 0;
      high[i] = high[last], low[i] = low[last], first[i] = i;
    }
  }

  // Prepares rows of M in the panel of kPanel rows from `anchor`: for earlier columns
  // exp(cs_i - cs_j) = exp(cs_i - cs_anchor) exp(cs_anchor - cs_j), both at most 1, so one
  // exponential a column.
  void start_panel(int64_t anchor) {
    const int64_t from = std::min(first[anchor], anchor);
    std::fill_n(column, from, 0.0f);
#pragma omp simd
    for (int64_t j = from; j < anchor; ++j) column[j] = exp_f(std::min(between(anchor, j), 0.0f));
  }
  // Row i of M into `decay`, columns [0, anchor + kPanel).
  void decay_row(int64_t anchor, int64_t i) {
    const float factor = first[i] <= anchor ? exp_f(std::min(between(i, anchor), 0.0f)) : 0.0f;
#pragma omp simd
    for (int64_t j = 0; j < anchor; ++j) decay[j] = factor * column[j];
    float* diagonal = decay + anchor;
#pragma omp simd
    for (int64_t j = 0; j < kPanel; ++j)
      diagonal[j] = exp_f(std::min(between(i, anchor + j), 0.0f));
    for (int64_t j = anchor; j < first[i]; ++j) decay[j] = 0;
    for (int64_t j = i + 1; j < anchor + kPanel; ++j) decay[j] = 0;
  }

  // d dt_i / d raw_i; 0 where the limits hold.
  float slope(int64_t i, float low, float high) const {
    const float soft = softplus(raw[i]);
    if (soft < low || soft > high) return 0;
    return raw[i] > 20 ? 1.0f : 1.0f / (1.0f + std::exp(-raw[i]));
  }
};

}  // namespace ft::cpu
