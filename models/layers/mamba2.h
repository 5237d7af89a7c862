// Mamba-2 mixer between the block's merged projections: causal conv + SiLU, SSD, gate (with
// optional norm). Multipliers: z through the gate, x B C through the conv taps, dt through the
// scan, the output through out_scale.
#pragma once

#include "core/context.h"
#include "core/param.h"
#include "models/layers/slots.h"

#include <array>
#include <string>

namespace ft {

struct Mamba2 {
  int64_t heads = 0, head_dim = 0, groups = 1, state = 0, chunk = 0;  // H P G N Q
  float z_scale = 1, out_scale = 1;
  ops::DtLimits dt_limits;
  std::array<float, 3> xbc_scales{1, 1, 1};
  float eps = 1e-5f;
  bool norm_before_gate = false;

  Param conv;               // [C, k]
  Param conv_bias;          // [C], or absent
  Param dt_bias, a_log, d;  // [H]
  Param norm;               // [H * P], or absent

  int64_t inner() const { return heads * head_dim; }            // d_ssm
  int64_t xbc() const { return inner() + 2 * groups * state; }  // channels of the conv

  struct Start {
    bool conv_bias = true, norm = false;  // whether it has them
    Init dt_bias, a_log;
  };
  // Parameters under `name` ("model.layers.3.mamba."), of `taps` of the convolution.
  void declare(const std::string& name, int64_t taps, const Start& start);

  struct Saved {
    Slot conv;    // [T, xbc()] after conv and SiLU
    Slot y;       // [T, inner] output of the scan
    Slot states;  // [B * chunks, H * P * N] f32
    Slot rstd;    // [T, G] f32
  };
  Saved saved(SlotBank& bank, Dtype compute, const Extent& extent) const;

  // Views of one micro-batch.
  struct Views {
    Slot z, xbc, dt;             // raw projections: [T, inner], [T, xbc()], [T, H]
    Slot conv, y, states, rstd;  // as saved
    Slot out;                    // [T, inner]
  };
  // What decoding carries over: the last k-1 raw rows of the conv, and the state. Both are updated.
  struct Cache {
    Tensor history;     // [B * (k-1), xbc()] compute dtype
    Tensor state;       // [B, H * P * N] f32
    Tensor next_state;  // same shape; swapped with state after each call
  };
  Cache make_cache(Memory& memory, Dtype compute) const;

  // dt_peak [1] f32 becomes the largest dt of this call, where that is larger.
  void forward(Ctx& c, const Views& s, const Tensor& docs, int64_t sequences,
               std::optional<Tensor> dt_peak = std::nullopt, Cache* cache = nullptr) const;
  // From dout: gradients of the raw z, xbc, dt columns, and of the parameters.
  void backward(Ctx& c, const Views& s, const Tensor& docs, int64_t sequences, const Tensor& dout,
                const Tensor& dz, const Tensor& dxbc, const Tensor& ddt) const;

  template <class F>
  void visit(F&& f) {
    for (Param* p : {&conv, &conv_bias, &dt_bias, &a_log, &d, &norm})
      if (p->present()) f(*p);
  }

 private:
  // What forward reads and backward reads again.
  ops::Conv1dInputs conv_inputs(const Views& s, const Tensor& docs, int64_t sequences) const;
  ops::SsdInputs ssd_inputs(const Views& s, const Tensor& docs, int64_t sequences) const;
  ops::GatedNormInputs gate_inputs(const Views& s) const;
  void keep_history(Ctx& c, const Views& s, Cache& cache) const;
};

}  // namespace ft
