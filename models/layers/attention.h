// Grouped-query attention with rotary positions, between the block's merged projections: it reads
// raw q, k, v columns and writes its output columns. Multipliers: q, k through RoPE's scale, v and
// the output through out_scale.
#pragma once

#include "core/context.h"
#include "models/layers/slots.h"

namespace ft {

struct Attention {
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
  float q_scale = 1;    // attention_in_multiplier
  float k_scale = 1;    // attention_in_multiplier * key_multiplier
  float out_scale = 1;  // attention_in_multiplier (of v) * attention_out_multiplier

  int64_t q_cols() const { return heads * head_dim; }
  int64_t kv_cols() const { return kv_heads * head_dim; }

  struct Saved {
    Slot lse;  // [heads, T] f32
  };
  Saved saved(SlotBank& bank, int64_t tokens) const;

  // Views of one micro-batch. q and k are rotated in place: that is how backward wants them.
  struct Views {
    Slot q, k, v;  // [T, q_cols], [T, kv_cols] raw projections
    Slot o;        // [T, q_cols]
    Slot lse;      // as saved
  };
  // What decoding has kept: keys and values of the sequence so far, this call's rows included
  // (written here).
  struct Cache {
    Tensor k, v;         // [capacity, kv_cols]
    int64_t length = 0;  // rows before this call
  };
  Cache make_cache(Memory& memory, Dtype compute, int64_t capacity) const;

  void forward(Ctx& c, const Views& s, const Tensor& rope, const Tensor& docs, int64_t sequences,
               Cache* cache = nullptr) const;
  // From do: gradients of the raw q, k, v columns.
  void backward(Ctx& c, const Views& s, const Tensor& rope, const Tensor& docs, int64_t sequences,
                const Tensor& d_o, const Tensor& dq, const Tensor& dk, const Tensor& dv) const;

 private:
  ops::AttentionInputs inputs(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& docs,
                              int64_t sequences) const;
};

}  // namespace ft
