// SSD: the state-space mixer of Mamba-2, chunked (Dao and Gu 2024, arXiv 2405.21060).
//   dt = clamp(softplus(dt_scale * dt_raw + dt_bias), dt_min, dt_max);  A = -exp(a_log)
//   S_t = exp(dt A) S_{t-1} + dt x_t B_t^T,  where S_{t-1} = 0 at a document's first token
//   y_t = S_t C_t + D x_t
// Head h reads group h / (H / G). Any length, any chunk.
#pragma once

#include "core/ops/op.h"

#include <limits>
#include <optional>

namespace ft::ops {

// Tokens of the chunk that a token is in, on average over a sequence: its last one may be shorter.
inline double mean_chunk(int64_t length, int64_t chunk) {
  const auto whole = static_cast<double>(length - length % chunk);
  const auto rest = static_cast<double>(length % chunk);
  return (whole * static_cast<double>(chunk) + rest * rest) / static_cast<double>(length);
}

// What dt is made of beside its bias.
struct DtLimits {
  float scale = 1;
  float min = 0;
  float max = std::numeric_limits<float>::infinity();
};

struct SsdInputs {
  In x;        // [T, H * P]
  In b;        // [T, G * N]
  In c;        // [T, G * N]
  In dt;       // [T, H] raw
  In dt_bias;  // [H] f32
  In a_log;    // [H] f32
  In d;        // [H] f32
  In docs;
  DtLimits limits;
  int64_t sequences = 1;  // B
  int64_t groups = 1;     // G
  int64_t state = 0;      // N
  int64_t chunk = 128;    // Q
  FT_INPUTS {
    f("x", x), f("b", b), f("c", c), f("dt", dt), f("dt_bias", dt_bias), f("a_log", a_log),
        f("d", d), f("docs", docs);
  }
  int64_t heads() const { return a_log.size(); }
  int64_t length() const { return x.rows() / sequences; }  // tokens of a sequence
  int64_t states_rows() const { return sequences * ((length() + chunk - 1) / chunk); }
  int64_t states_cols() const { return x.cols() * state; }  // H * P * N
  double head_dim() const { return static_cast<double>(x.cols()) / heads(); }
  void check() const {
    const int64_t T = x.rows(), H = heads(), GN = groups * state;
    check_dense("a_log", a_log, kF32, {kAny});
    FT_CHECK(groups > 0 && H > 0 && H % groups == 0 && x.cols() % H == 0,
             "{} heads do not go into {} groups and {} columns of x", H, groups, x.cols());
    FT_CHECK(state > 0 && chunk > 0, "a state of {} and chunks of {} tokens", state, chunk);
    check_rows("x", x, kFloat, {kAny, kAny});
    check_sequences(T, sequences);
    check_rows("b", b, x.dtype, {T, GN});
    check_rows("c", c, x.dtype, {T, GN});
    check_rows("dt", dt, x.dtype, {T, H});
    check_dense("dt_bias", dt_bias, kF32, {H});
    check_dense("d", d, kF32, {H});
    check_dense("docs", docs, kI32, {T});
  }
};
struct Ssd {
  SsdInputs in;
  Out y;  // [T, H * P]
  // [B * chunks, H * P * N] f32: the state entering each chunk; chunks = ceil(T / B / chunk)
  Out states;
  std::optional<In> initial_state = std::nullopt;  // [B, H * P * N] f32; else 0
  std::optional<Out> final_state = std::nullopt;   // [B, H * P * N] f32
  FT_OP("ssd") {
    f("y", y), f("states", states);
    in.args(f);
    FT_OPTIONAL(initial_state);
    FT_OPTIONAL(final_state);
  }
  void check() const {
    in.check();
    check_rows("y", y, in.x.dtype, {in.x.rows(), in.x.cols()});
    check_dense("states", states, kF32, {in.states_rows(), in.states_cols()});
    check_dense("initial_state", initial_state, kF32, {in.sequences, in.states_cols()});
    check_dense("final_state", final_state, kF32, {in.sequences, in.states_cols()});
  }
  double flops() const {  // causal half of the chunk x chunk work
    const double inside = mean_chunk(in.length(), in.chunk), head_dim = in.head_dim();
    return in.x.rows() * (inside * in.state * in.groups +
                          in.heads() * (inside * head_dim + 4.0 * head_dim * in.state));
  }
  double model_flops() const { return flops(); }
};
struct SsdGrad {
  SsdInputs in;
  In states;
  In dy;
  Out dx;                                         // [T, H * P]
  Out db;                                         // [T, G * N]
  Out dc;                                         // [T, G * N]
  Out ddt;                                        // [T, H], gradient of the raw dt (scale included)
  Out ddt_bias;                                   // [H] f32
  Out da_log;                                     // [H] f32
  Out dd;                                         // [H] f32
  std::optional<In> dfinal_state = std::nullopt;  // [B, H * P * N] f32
  std::optional<Out> dinitial_state = std::nullopt;  // [B, H * P * N] f32
  Grad grad = Grad::Accumulate;                      // of ddt_bias, da_log, dd
  FT_OP("ssd_grad") {
    f("dx", dx), f("db", db), f("dc", dc), f("ddt", ddt), f("ddt_bias", ddt_bias),
        f("da_log", da_log), f("dd", dd), f("dy", dy), f("states", states);
    in.args(f);
    FT_OPTIONAL(dfinal_state);
    FT_OPTIONAL(dinitial_state);
  }
  void check() const {
    const int64_t T = in.x.rows(), H = in.heads();
    in.check();
    check_dense("states", states, kF32, {in.states_rows(), in.states_cols()});
    check_rows("dy", dy, in.x.dtype, {T, in.x.cols()});
    check_rows("dx", dx, in.x.dtype, {T, in.x.cols()});
    check_rows("db", db, in.x.dtype, {T, in.b.cols()});
    check_rows("dc", dc, in.x.dtype, {T, in.c.cols()});
    check_rows("ddt", ddt, in.x.dtype, {T, H});
    check_dense("ddt_bias", ddt_bias, kF32, {H});
    check_dense("da_log", da_log, kF32, {H});
    check_dense("dd", dd, kF32, {H});
    check_dense("dfinal_state", dfinal_state, kF32, {in.sequences, in.states_cols()});
    check_dense("dinitial_state", dinitial_state, kF32, {in.sequences, in.states_cols()});
  }
  double flops() const {
    const double inside = mean_chunk(in.length(), in.chunk), head_dim = in.head_dim();
    return in.x.rows() * (3.0 * inside * in.state * in.groups +
                          in.heads() * (2.0 * inside * head_dim + 8.0 * head_dim * in.state));
  }
};

// peak = max(peak, dt) over all tokens and heads, dt as in Ssd; NaN wins. It starts from 0.
struct DtPeak {
  InOut peak;  // [1] f32
  In dt;       // [T, H] raw
  In dt_bias;  // [H] f32
  DtLimits limits;
  FT_OP("dt_peak") { f("peak", peak), f("dt", dt), f("dt_bias", dt_bias); }
  void check() const {
    check_dense("peak", peak, kF32, {1});
    check_rows("dt", dt, kFloat, {kAny, kAny});
    check_dense("dt_bias", dt_bias, kF32, {dt.cols()});
  }
  double flops() const { return 0; }  // a look, not a part of the model
};

}  // namespace ft::ops
