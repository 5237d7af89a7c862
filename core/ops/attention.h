// Rotary positions and causal attention.
#pragma once

#include "core/ops/op.h"

namespace ft::ops {

// cos and sin of every position, in double, rounded once:
//   angle = (first + row) * theta^(-2 j / head_dim)
struct RopeTable {
  Out table;  // [positions, head_dim] f32: head_dim/2 cosines, then head_dim/2 sines
  double theta = 1e4;
  FT_OP("rope_table") { f("table", table); }
  void check() const {
    check_rows("table", table, kF32, {kAny, kAny});
    FT_CHECK(table.cols() % 2 == 0, "it turns pairs of channels: head_dim must be even, not {}",
             table.cols());
  }
  double flops() const { return 0; }
};
// In place: x = scale * rotate(x) (rotate-half over the whole head dim) at position t - docs[t].
// inverse: x = scale * rotate^-1(x), which is the gradient of the forward form.
struct Rope {
  InOut x;   // [T, heads * head_dim]
  In table;  // [positions, head_dim] f32; checked by the caller: 0 <= t - docs[t] < positions
  In docs;
  float scale = 1;
  bool inverse = false;
  FT_OP("rope") { f("x", x), f("table", table), f("docs", docs); }
  void check() const {
    const int64_t dim = table.cols();
    check_rows("table", table, kF32, {kAny, kAny});
    check_rows("x", x, kFloat, {kAny, kAny});
    FT_CHECK(dim > 0 && dim % 2 == 0 && x.cols() % dim == 0,
             "x has {} columns, wanted heads of the table's head_dim {}, which is even", x.cols(),
             dim);
    check_dense("docs", docs, kI32, {x.rows()});
  }
  double flops() const { return 3.0 * x.size(); }
};

// o = out_scale * softmax(softmax_scale * q k^T) v, causal, within documents, grouped queries
// (query head j reads key head j / (heads / kv_heads)). Blocked online softmax: never [T, T].
// Keys may be longer than queries (decoding, context parallelism): the last query sits on the last
// key.
struct AttentionInputs {
  In q;     // [T, heads * head_dim]
  In k;     // [Tk, kv_heads * head_dim], Tk = B * keys per sequence
  In v;     // [Tk, kv_heads * head_dim]
  In docs;  // [T], in query numbering: a document may start below the sequence's first query
  float softmax_scale = 1;
  float out_scale = 1;
  int64_t heads = 1;
  int64_t kv_heads = 1;
  int64_t sequences = 1;
  FT_INPUTS { f("q", q), f("k", k), f("v", v), f("docs", docs); }
  void check() const {
    check_rows("q", q, kFloat, {kAny, kAny});
    FT_CHECK(heads > 0 && kv_heads > 0 && heads % kv_heads == 0 && q.cols() % heads == 0,
             "{} heads cannot share {} key heads in {} columns of q", heads, kv_heads, q.cols());
    check_rows("k", k, q.dtype, {kAny, q.cols() / heads * kv_heads});
    check_rows("v", v, q.dtype, {k.rows(), k.cols()});
    check_dense("docs", docs, kI32, {q.rows()});
    check_sequences(q.rows(), sequences);
    check_sequences(k.rows(), sequences);
    FT_CHECK(k.rows() >= q.rows(), "k has {} rows, wanted one for each of {} queries", k.rows(),
             q.rows());
  }
  double causal_flops() const {  // causal half of 4 T Tk C
    const int64_t length = k.rows() / sequences;
    return 2.0 * static_cast<double>(length * q.size());
  }
};
struct Attention {
  AttentionInputs in;
  Out o;    // [T, heads * head_dim]
  Out lse;  // [heads, T] f32: log-sum-exp of each query's scaled scores
  FT_OP("attention") {
    f("o", o), f("lse", lse);
    in.args(f);
  }
  void check() const {
    in.check();
    check_rows("o", o, in.q.dtype, {in.q.rows(), in.q.cols()});
    check_dense("lse", lse, kF32, {in.heads, in.q.rows()});
  }
  double flops() const { return in.causal_flops(); }
  double model_flops() const { return flops(); }
};
struct AttentionGrad {
  AttentionInputs in;
  In o;  // as forward wrote it (out_scale included)
  In lse;
  In d_o;  // dL/do, [T, heads * head_dim]
  Out dq;
  Out dk;
  Out dv;
  FT_OP("attention_grad") {
    f("dq", dq), f("dk", dk), f("dv", dv), f("d_o", d_o), f("o", o), f("lse", lse);
    in.args(f);
  }
  void check() const {
    const int64_t T = in.q.rows(), C = in.q.cols();
    in.check();
    check_rows("o", o, in.q.dtype, {T, C});
    check_dense("lse", lse, kF32, {in.heads, T});
    check_rows("d_o", d_o, in.q.dtype, {T, C});
    check_rows("dq", dq, in.q.dtype, {T, C});
    check_rows("dk", dk, in.q.dtype, {in.k.rows(), in.k.cols()});
    check_rows("dv", dv, in.q.dtype, {in.k.rows(), in.k.cols()});
  }
  double flops() const { return 2 * in.causal_flops(); }  // counted as twice forward
};

}  // namespace ft::ops
