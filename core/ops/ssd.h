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

struct Ssd {
  Out y;  // [T, H * P]
  // [B * chunks, H * P * N] f32: the state entering each chunk; chunks = ceil(T / B / chunk)
  Out states;
  In x;        // [T, H * P]
  In b;        // [T, G * N]
  In c;        // [T, G * N]
  In dt;       // [T, H] raw
  In dt_bias;  // [H] f32
  In a_log;    // [H] f32
  In d;        // [H] f32
  In docs;
  std::optional<In> initial_state = std::nullopt;  // [B, H * P * N] f32; else 0
  std::optional<Out> final_state = std::nullopt;   // [B, H * P * N] f32
  float dt_scale = 1;
  float dt_min = 0;
  float dt_max = std::numeric_limits<float>::infinity();
  int64_t sequences = 1;  // B
  int64_t groups = 1;     // G
  int64_t state = 0;      // N
  int64_t chunk = 128;    // Q
  FT_OP("ssd") {
    f("y", y), f("states", states), f("x", x), f("b", b), f("c", c), f("dt", dt),
        f("dt_bias", dt_bias), f("a_log", a_log), f("d", d), f("docs", docs);
    FT_OPTIONAL(initial_state);
    FT_OPTIONAL(final_state);
  }
  int64_t heads() const { return a_log.size(); }
  double flops() const {  // causal half of the chunk x chunk work
    const double head_dim = static_cast<double>(x.cols()) / heads();
    const double inside = mean_chunk(x.rows() / sequences, chunk);
    return x.rows() *
           (inside * state * groups + heads() * (inside * head_dim + 4.0 * head_dim * state));
  }
  double model_flops() const { return flops(); }
};
struct SsdGrad {
  Out dx;        // [T, H * P]
  Out db;        // [T, G * N]
  Out dc;        // [T, G * N]
  Out ddt;       // [T, H], gradient of the raw dt (dt_scale included)
  Out ddt_bias;  // [H] f32
  Out da_log;    // [H] f32
  Out dd;        // [H] f32
  In dy;
  In x;
  In b;
  In c;
  In dt;
  In dt_bias;
  In a_log;
  In d;
  In states;
  In docs;
  std::optional<In> dfinal_state = std::nullopt;     // [B, H * P * N] f32
  std::optional<Out> dinitial_state = std::nullopt;  // [B, H * P * N] f32
  float dt_scale = 1;
  float dt_min = 0;
  float dt_max = std::numeric_limits<float>::infinity();
  int64_t sequences = 1;
  int64_t groups = 1;
  int64_t state = 0;
  int64_t chunk = 128;
  Grad grad = Grad::Accumulate;  // of ddt_bias, da_log, dd
  FT_OP("ssd_grad") {
    f("dx", dx), f("db", db), f("dc", dc), f("ddt", ddt), f("ddt_bias", ddt_bias),
        f("da_log", da_log), f("dd", dd), f("dy", dy), f("x", x), f("b", b), f("c", c), f("dt", dt),
        f("dt_bias", dt_bias), f("a_log", a_log), f("d", d), f("states", states), f("docs", docs);
    FT_OPTIONAL(dfinal_state);
    FT_OPTIONAL(dinitial_state);
  }
  int64_t heads() const { return a_log.size(); }
  double flops() const {
    const double head_dim = static_cast<double>(x.cols()) / heads();
    const double inside = mean_chunk(x.rows() / sequences, chunk);
    return x.rows() * (3.0 * inside * state * groups +
                       heads() * (2.0 * inside * head_dim + 8.0 * head_dim * state));
  }
};

// peak = max(peak, dt) over all tokens and heads, dt as in Ssd; NaN wins. It starts from 0.
struct DtPeak {
  InOut peak;  // [1] f32
  In dt;       // [T, H] raw
  In dt_bias;  // [H] f32
  float dt_scale = 1;
  float dt_min = 0;
  float dt_max = std::numeric_limits<float>::infinity();
  FT_OP("dt_peak") { f("peak", peak), f("dt", dt), f("dt_bias", dt_bias); }
  double flops() const { return 0; }  // a look, not a part of the model
};

}  // namespace ft::ops
