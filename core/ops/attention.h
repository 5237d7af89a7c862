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

}  // namespace ft::ops
