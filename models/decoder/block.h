// One layer of the hybrid decoder: attention and Mamba-2 side by side on one shared norm, then a
// gated MLP, each added to the residual stream. The block owns the merged projections: one product makes
// [z | x | B | C | q | k | v | dt], one takes [attention | ssm]. Symbols of the layer pattern:
// P both mixers (Falcon-H1's block), M Mamba-2, A attention (Llama's), F MLP only.
#pragma once

#include "core/context.h"
#include "core/param.h"
#include "core/precision.h"
#include "models/decoder/config.h"
#include "models/layers/attention.h"
#include "models/layers/linear.h"
#include "models/layers/mamba2.h"
#include "models/layers/mlp.h"
#include "models/layers/norm.h"
#include "models/layers/slots.h"

namespace ft {

// What all blocks of a pass share.
struct BlockInputs {
  Extent extent;
  Tensor docs;  // [T]
  Tensor rope;  // [positions, head_dim]
  // [1] f32: where a Mamba-2 mixer reports its largest dt
  std::optional<Tensor> dt_peak = std::nullopt;
};

class Block {
 public:
  Block(const ModelConfig& config, Precision precision, int64_t layer, char symbol);

  // Values that backward needs; each a view for one micro-batch.
  struct Saved {
    Norm::Saved norm;
    Slot p;    // merged projection [T, Wi]
    Slot mix;  // [T, attention + ssm columns]
    Slot r;    // residual stream between mixers and MLP [T, d]
    Mamba2::Saved mamba;
    Attention::Saved attention;
    Norm::Saved ff_norm;
    Mlp::Saved mlp;
  };
  struct Cache {
    Attention::Cache attention;
    Mamba2::Cache mamba;
  };

  Saved saved(SlotBank& bank, const Extent& extent) const;
  Cache make_cache(Memory& memory, int64_t capacity) const;

  void forward(Ctx& c, const Saved& s, const BlockInputs& in, const Tensor& x, const Slot& y,
               Cache* cache = nullptr) const;
  // dy [T, d] becomes the gradient of x, in place.
  void backward(Ctx& c, const Saved& s, const BlockInputs& in, const Tensor& x,
                const Tensor& dy) const;

  template <class F>
  void visit(F&& f) {
    if (mixers()) {
      norm_.visit(f);
      in_proj_.visit(f);
      if (mamba()) mamba_.visit(f);
      out_proj_.visit(f);
    }
    ff_norm_.visit(f);
    mlp_.visit(f);
  }

  bool attention() const { return symbol_ == 'P' || symbol_ == 'A'; }
  bool mamba() const { return symbol_ == 'P' || symbol_ == 'M'; }
  bool mixers() const { return symbol_ != 'F'; }
  const std::string& label() const { return label_; }

 private:
  // Columns of the merged in-projection.
  struct Columns {
    int64_t z = 0, xbc = 0, q = 0, k = 0, v = 0, dt = 0, end = 0, padded = 0;
  };
  void declare_mixers(const ModelConfig& config);
  void declare_mamba(const ModelConfig& config);
  void declare_mamba_projections(const ModelConfig& config);
  void declare_attention_projections(const ModelConfig& config);
  void mixers_backward(Ctx& c, const Saved& s, const BlockInputs& in, const Tensor& x,
                       const Tensor& dy) const;
  Attention::Views attention_views(const Saved& s) const;
  Mamba2::Views mamba_views(const Saved& s) const;

  Precision precision_;
  std::string label_;  // "model.layers.3."
  char symbol_;
  Columns cols_;
  int64_t hidden_;
  Norm norm_, ff_norm_;
  Linear in_proj_, out_proj_;
  Attention attention_;
  Mamba2 mamba_;
  Mlp mlp_;
};

}  // namespace ft
