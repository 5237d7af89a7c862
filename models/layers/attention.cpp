#include "models/layers/attention.h"

#include <cmath>

namespace ft {

ops::AttentionInputs Attention::inputs(const Tensor& q, const Tensor& k, const Tensor& v,
                                       const Tensor& docs, int64_t sequences) const {
  return {.q = q,
          .k = k,
          .v = v,
          .docs = docs,
          .softmax_scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(head_dim))),
          .out_scale = out_scale,
          .heads = heads,
          .kv_heads = kv_heads,
          .sequences = sequences};
}

Attention::Saved Attention::saved(SlotBank& bank, int64_t tokens) const {
  return {.lse = bank.slot("lse", Fate::Block, Dtype::F32, {heads, tokens})};
}

Attention::Cache Attention::make_cache(Memory& memory, Dtype compute, int64_t capacity) const {
  return {.k = memory.make("cache", compute, {capacity, kv_cols()}),
          .v = memory.make("cache", compute, {capacity, kv_cols()})};
}

void Attention::forward(Ctx& c, const Views& s, const Tensor& rope, const Tensor& docs,
                        int64_t sequences, Cache* cache) const {
  c(ops::Rope{.x = s.q, .table = rope, .docs = docs, .scale = q_scale});
  c(ops::Rope{.x = s.k, .table = rope, .docs = docs, .scale = k_scale});
  Tensor k = s.k.tensor, v = s.v.tensor;
  if (cache) {
    const int64_t end = cache->length + k.rows();
    c(ops::Copy{.y = cache->k.row_range(cache->length, end), .x = k});
    c(ops::Copy{.y = cache->v.row_range(cache->length, end), .x = v});
    k = cache->k.row_range(0, end);
    v = cache->v.row_range(0, end);
  }
  c(ops::Attention{.in = inputs(s.q, k, v, docs, sequences), .o = s.o, .lse = s.lse});
}

void Attention::backward(Ctx& c, const Views& s, const Tensor& rope, const Tensor& docs,
                         int64_t sequences, const Tensor& d_o, const Tensor& dq, const Tensor& dk,
                         const Tensor& dv) const {
  c(ops::AttentionGrad{.in = inputs(s.q, s.k, s.v, docs, sequences),
                       .o = s.o,
                       .lse = s.lse,
                       .d_o = d_o,
                       .dq = dq,
                       .dk = dk,
                       .dv = dv});
  c(ops::Rope{.x = dq, .table = rope, .docs = docs, .scale = q_scale, .inverse = true});
  c(ops::Rope{.x = dk, .table = rope, .docs = docs, .scale = k_scale, .inverse = true});
}

}  // namespace ft
