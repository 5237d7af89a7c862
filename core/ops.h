// SEAM 2: the mathematics. Every op is a struct of named arguments, declared once, here.
// cpu/*.cpp (and cuda/*.cu) define `template <> void run(const ops::X&, Stream)`; code above the
// seam hands ops to the gateway (core/context.h) and never calls run() itself.
//
// Conventions
//  * T = tokens of a micro-batch: B sequences of equal length, one after another. Activations are
//    [T, columns], row stride free (column views of merged projections), columns dense.
//  * docs [T] int32: where the token's document starts, as a token index of the same numbering. It
//  is
//    below the sequence's first token when the document began in an earlier slice (carried state).
//    Position in the document = t - docs[t]. Documents never cross a sequence start otherwise.
//  * Activation dtype is fp32 or bf16; statistics, states, weights' gradients and everything marked
//    f32 are fp32 whatever the activations are. Outputs and inputs of the same kind share one
//    dtype.
//  * Weight gradients honour Grad (overwrite or accumulate); activation gradients overwrite.
//  * Reductions have a fixed order that depends on shapes only, never on the number of threads.
#pragma once

#include "core/device.h"
#include "core/tensor.h"
#include "core/workspace.h"

#include <array>
#include <limits>
#include <optional>

namespace ft::ops {

// Every op has: kName; args(f), which calls f(name, argument) for each present argument; flops().
// One that reads or writes part of an argument also has touched(), the bytes that move. Those that
// make up a model's FLOPs by the usual convention (matrix products, attention, the scan) also have
// model_flops(): without what only alignment adds.

#define FT_OP(name)                          \
  static constexpr const char* kName = name; \
  template <class F>                         \
  void args(F&& f) const
#define FT_OPTIONAL(field) \
  if (field) f(#field, *(field))

// ---- linear algebra ---------------------------------------------------------------------------

// y = alpha * op(a) op(b) [+ residual] [+ y if Accumulate];  op(a) [M, K], op(b) [K, N], y [M, N].
// a and b share a dtype (fp32 or bf16); y and residual are fp32 or bf16 each. fp32 accumulation.
// `residual` may be y itself only when the dtypes agree.
struct Gemm {
  Out y;
  In a;
  In b;
  bool trans_a = false;
  bool trans_b = true;  // weights are stored [out, in]
  float alpha = 1;
  std::optional<In> residual = std::nullopt;
  Grad grad = Grad::Overwrite;
  double share = 1;  // of the product that is more than padding
  FT_OP("gemm") {
    f("y", y), f("a", a), f("b", b);
    FT_OPTIONAL(residual);
  }
  double flops() const { return 2.0 * y.rows() * y.cols() * (trans_a ? a.rows() : a.cols()); }
  double model_flops() const { return share * flops(); }
};

// y[t, :] += scale * bias
struct AddBias {
  InOut y;  // [T, C]
  In bias;  // [C] f32
  float scale = 1;
  FT_OP("add_bias") { f("y", y), f("bias", bias); }
  double flops() const { return static_cast<double>(y.size()); }
};
// dbias = scale * sum_t dy[t, :]
struct AddBiasGrad {
  Out dbias;  // [C] f32
  In dy;      // [T, C]
  float scale = 1;
  Grad grad = Grad::Accumulate;
  FT_OP("add_bias_grad") { f("dbias", dbias), f("dy", dy); }
  double flops() const { return static_cast<double>(dy.size()); }
};

// ---- embedding --------------------------------------------------------------------------------

struct Embedding {
  Out y;      // [T, C], any activation dtype
  In ids;     // [T] i32, checked by the caller: 0 <= id < rows of weight
  In weight;  // [V, C]
  float scale = 1;
  FT_OP("embedding") { f("y", y), f("ids", ids), f("weight", weight); }
  double flops() const { return 0; }
  double touched() const {
    return static_cast<double>(y.bytes() + ids.bytes() + y.size() * size_of(weight.dtype));
  }
};
// dweight[id] = scale * sum over tokens with that id of dy, in token order. With Overwrite all
// other rows become 0.
struct EmbeddingGrad {
  Out dweight;  // [V, C] f32
  In dy;        // [T, C]
  In ids;       // [T] i32
  float scale = 1;
  int64_t padding_id = -1;  // this row gets no gradient (torch's padding_idx); -1 = none
  Grad grad = Grad::Accumulate;
  FT_OP("embedding_grad") { f("dweight", dweight), f("dy", dy), f("ids", ids); }
  double flops() const { return static_cast<double>(dy.size()); }
  double touched() const {  // its rows are read and written; Overwrite clears the others
    const int64_t rows = 2 * dy.size() * size_of(dweight.dtype);
    const int64_t cleared = grad == Grad::Overwrite ? dweight.bytes() : 0;
    return static_cast<double>(dy.bytes() + ids.bytes() + rows + cleared);
  }
};

// ---- norms ------------------------------------------------------------------------------------

// y = w * x * rstd,  rstd = 1 / sqrt(mean(x^2) + eps)
struct RmsNorm {
  Out y;     // [T, C] activation dtype
  Out rstd;  // [T] f32
  In x;      // [T, C] residual dtype (may differ from y's)
  In w;      // [C] f32
  float eps = 1e-5f;
  FT_OP("rms_norm") { f("y", y), f("rstd", rstd), f("x", x), f("w", w); }
  double flops() const { return 4.0 * x.size(); }
};
// dx = rstd * (g - x rstd^2 mean(g x)) [+ dresidual],  g = dy w;   dw = sum_t dy x rstd
struct RmsNormGrad {
  Out dx;  // [T, C] residual dtype; may be dresidual's memory
  Out dw;  // [C] f32
  In dy;   // [T, C]
  In x;
  In rstd;
  In w;
  std::optional<In> dresidual = std::nullopt;  // [T, C], the gradient that bypasses the norm
  Grad grad = Grad::Accumulate;
  FT_OP("rms_norm_grad") {
    f("dx", dx), f("dw", dw), f("dy", dy), f("x", x), f("rstd", rstd), f("w", w);
    FT_OPTIONAL(dresidual);
  }
  double flops() const { return 10.0 * x.size(); }
};

// The gate of Mamba-2, with its optional grouped RMSNorm. s(z) = silu(z_scale * z).
//   without w:                  y = out_scale * x * s(z)
//   w, norm_before_gate false:  y = out_scale * w * norm(x * s(z))
//   w, norm_before_gate true:   y = out_scale * w * norm(x) * s(z)
// norm over each of `groups` runs of C / groups channels.
struct GatedNorm {
  Out y;                                   // [T, C]
  In x;                                    // [T, C]
  In z;                                    // [T, C]
  std::optional<Out> rstd = std::nullopt;  // [T, groups] f32; with w
  std::optional<In> w = std::nullopt;      // [C] f32
  float z_scale = 1;
  float out_scale = 1;
  float eps = 1e-5f;
  int64_t groups = 1;
  bool norm_before_gate = false;
  FT_OP("gated_norm") {
    f("y", y);
    FT_OPTIONAL(rstd);
    f("x", x), f("z", z);
    FT_OPTIONAL(w);
  }
  double flops() const { return 10.0 * x.size(); }
};
struct GatedNormGrad {
  Out dx;  // [T, C]
  Out dz;  // [T, C], gradient of the raw z (z_scale included)
  In dy;
  In x;
  In z;
  std::optional<Out> dw = std::nullopt;  // [C] f32; with w
  std::optional<In> rstd = std::nullopt;
  std::optional<In> w = std::nullopt;
  float z_scale = 1;
  float out_scale = 1;
  int64_t groups = 1;
  bool norm_before_gate = false;
  Grad grad = Grad::Accumulate;
  FT_OP("gated_norm_grad") {
    f("dx", dx), f("dz", dz);
    FT_OPTIONAL(dw);
    f("dy", dy), f("x", x), f("z", z);
    FT_OPTIONAL(rstd);
    FT_OPTIONAL(w);
  }
  double flops() const { return 25.0 * x.size(); }
};

// ---- causal depthwise convolution + SiLU ------------------------------------------------------

//   y[t, c] = silu(bias[c] + sum_j w[c, j] * scale(c) * x[t - (k-1) + j, c])
// A tap before docs[t] is 0. scale(c): the channels are three sections x | B | C, each with its
// own multiplier. history: raw inputs of the k-1 tokens before each sequence (context parallelism,
// decoding).
struct Conv1d {
  Out y;  // [T, C]
  In x;   // [T, C]
  In w;   // [C, k] f32
  In docs;
  std::optional<In> bias = std::nullopt;     // [C] f32
  std::optional<In> history = std::nullopt;  // [B * (k-1), C] activation dtype
  std::array<int64_t, 3> sections{};         // channels of x, B, C; they add up to C
  std::array<float, 3> scales{1, 1, 1};
  int64_t sequences = 1;  // B
  FT_OP("conv1d") {
    f("y", y), f("x", x), f("w", w), f("docs", docs);
    FT_OPTIONAL(bias);
    FT_OPTIONAL(history);
  }
  double flops() const { return 2.0 * x.size() * w.cols(); }
};
struct Conv1dGrad {
  Out dx;  // [T, C], gradient of the raw x (scale included)
  Out dw;  // [C, k] f32
  In dy;
  In x;
  In w;
  In docs;
  std::optional<Out> dbias = std::nullopt;
  std::optional<In> bias = std::nullopt;
  std::optional<In> history = std::nullopt;
  std::optional<Out> dhistory = std::nullopt;  // [B * (k-1), C] f32
  std::array<int64_t, 3> sections{};
  std::array<float, 3> scales{1, 1, 1};
  int64_t sequences = 1;
  Grad grad = Grad::Accumulate;
  FT_OP("conv1d_grad") {
    f("dx", dx), f("dw", dw), f("dy", dy), f("x", x), f("w", w), f("docs", docs);
    FT_OPTIONAL(dbias);
    FT_OPTIONAL(bias);
    FT_OPTIONAL(history);
    FT_OPTIONAL(dhistory);
  }
  double flops() const { return 6.0 * x.size() * w.cols(); }
};

// ---- SSD: the state-space mixer of Mamba-2, chunked (Dao and Gu 2024, arXiv 2405.21060) --------
//   dt = clamp(softplus(dt_scale * dt_raw + dt_bias), dt_min, dt_max);  A = -exp(a_log)
//   S_t = exp(dt A) S_{t-1} + dt x_t B_t^T,  where S_{t-1} = 0 at a document's first token
//   y_t = S_t C_t + D x_t
// Head h reads group h / (H / G). Any length, any chunk.

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

// ---- attention --------------------------------------------------------------------------------

// cos and sin of every position, in double, rounded once:
//   angle = (first + row) * theta^(-2 j / head_dim)
struct RopeTable {
  Out table;  // [positions, head_dim] f32: head_dim/2 cosines, then head_dim/2 sines
  double theta = 1e4;
  FT_OP("rope_table") { f("table", table); }
  double flops() const { return 0; }
};
// In place: x = scale * rotate(x) (rotate-half over the whole head dim) at position t - docs[t].
// inverse: x = scale * rotate^-1(x), which is the gradient of the forward form.
struct Rope {
  InOut x;   // [T, heads * head_dim]
  In table;  // [positions, head_dim] f32; positions > every t - docs[t]
  In docs;
  float scale = 1;
  bool inverse = false;
  FT_OP("rope") { f("x", x), f("table", table), f("docs", docs); }
  double flops() const { return 3.0 * x.size(); }
};

// o = out_scale * softmax(softmax_scale * q k^T) v, causal, within documents, grouped queries
// (query head j reads key head j / (heads / kv_heads)). Blocked online softmax: never [T, T].
// Keys may be longer than queries (decoding, context parallelism): the last query sits on the last
// key.
struct Attention {
  Out o;    // [T, heads * head_dim]
  Out lse;  // [heads, T] f32: log-sum-exp of each query's scaled scores
  In q;     // [T, heads * head_dim]
  In k;     // [Tk, kv_heads * head_dim], Tk = B * keys per sequence
  In v;     // [Tk, kv_heads * head_dim]
  In docs;  // [T], in query numbering: a document may start below the sequence's first query
  float softmax_scale = 1;
  float out_scale = 1;
  int64_t heads = 1;
  int64_t kv_heads = 1;
  int64_t sequences = 1;
  FT_OP("attention") { f("o", o), f("lse", lse), f("q", q), f("k", k), f("v", v), f("docs", docs); }
  double flops() const {
    const int64_t keys = k.rows() / sequences;
    return 2.0 * keys * q.size();
  }  // causal half of 4 T Tk C
  double model_flops() const { return flops(); }
};
struct AttentionGrad {
  Out dq;
  Out dk;
  Out dv;
  In doo;  // dL/do, [T, heads * head_dim]
  In o;    // as forward wrote it (out_scale included)
  In lse;
  In q;
  In k;
  In v;
  In docs;
  float softmax_scale = 1;
  float out_scale = 1;
  int64_t heads = 1;
  int64_t kv_heads = 1;
  int64_t sequences = 1;
  FT_OP("attention_grad") {
    f("dq", dq), f("dk", dk), f("dv", dv), f("doo", doo), f("o", o), f("lse", lse), f("q", q),
        f("k", k), f("v", v), f("docs", docs);
  }
  double flops() const {
    const int64_t keys = k.rows() / sequences;
    return 4.0 * keys * q.size();
  }  // counted as twice forward
};

// ---- elementwise ------------------------------------------------------------------------------

// y = up * silu(gate_scale * gate)
struct SwiGlu {
  Out y;    // [T, C]
  In gate;  // [T, C]
  In up;    // [T, C]
  float gate_scale = 1;
  FT_OP("swiglu") { f("y", y), f("gate", gate), f("up", up); }
  double flops() const { return 5.0 * y.size(); }
};
struct SwiGluGrad {
  Out dgate;
  Out dup;
  In dy;
  In gate;
  In up;
  float gate_scale = 1;
  FT_OP("swiglu_grad") {
    f("dgate", dgate), f("dup", dup), f("dy", dy), f("gate", gate), f("up", up);
  }
  double flops() const { return 10.0 * dy.size(); }
};

// y = scale * x, between any two of fp32, bf16, fp64; equal shapes of up to two dims, rows may be
// strided.
struct Copy {
  Out y;
  In x;
  float scale = 1;
  FT_OP("copy") { f("y", y), f("x", x); }
  double flops() const { return 0; }
};
// y += x
struct Add {
  InOut y;
  In x;
  FT_OP("add") { f("y", y), f("x", x); }
  double flops() const { return static_cast<double>(y.size()); }
};
struct Fill {
  Out y;  // fp32, bf16, fp64 or int32; rows may be strided
  double value = 0;
  FT_OP("fill") { f("y", y); }
  double flops() const { return 0; }
};

// ---- loss -------------------------------------------------------------------------------------

// For rows with 0 <= label: loss = lse(logits) - logits[label], z = lse^2; others give 0 (any
// negative label). With `inv_count` the logits are replaced by the gradient of
//   inv_count * sum_t (loss + z_loss * z)
// ignored rows and padding columns (>= vocab) become 0. Without it logits stay as they are.
struct CrossEntropy {
  Out loss;           // [T] f32
  Out z;              // [T] f32
  InOut logits;       // [T, padded V] fp32 or bf16
  In labels;          // [T] i32
  int64_t vocab = 0;  // V, the columns that exist
  float z_loss = 0;
  std::optional<In> inv_count = std::nullopt;  // [1] f32: 1 / global number of valid tokens
  FT_OP("cross_entropy") {
    f("loss", loss), f("z", z), f("logits", logits), f("labels", labels);
    FT_OPTIONAL(inv_count);
  }
  double flops() const { return 6.0 * logits.rows() * vocab; }
};

}  // namespace ft::ops

#include "core/ops/optimizer.h"

#undef FT_OP
#undef FT_OPTIONAL

namespace ft {
namespace cpu {
template <class Op>
void run(const Op& op, Stream stream);
// The workspaces that run() will take for arguments of these shapes, on as many threads as OpenMP
// uses now. Reads no data.
template <class Op>
void need(const Op& op, WorkspaceNeed& n);
}  // namespace cpu
namespace cuda {
template <class Op>
void run(const Op& op, Stream stream);
}
}  // namespace ft
