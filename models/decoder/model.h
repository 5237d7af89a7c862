// Embedding, blocks, final norm and head, or a stage of them; forward and backward of one micro-batch,
// by hand.
#pragma once

#include "core/context.h"
#include "core/memory.h"
#include "core/precision.h"
#include "models/decoder/block.h"
#include "models/decoder/config.h"
#include "models/layers/norm.h"
#include "models/layers/slots.h"

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace ft {

// A part of a model that works on its own: blocks [first, last) and, where it has them, the embedding
// and the head with its norm.
struct Stage {
  int64_t first = 0, last = 0;
  bool embedding = true, head = true;
  static Stage whole(const ModelConfig& model) { return {.last = model.num_hidden_layers}; }
};

// How a model is to be laid out in memory.
struct ModelPlan {
  Extent largest;         // of a micro-batch
  int64_t in_flight = 1;  // micro-batches whose saved values live at once (pipeline schedules)
  Recompute recompute = Recompute::None;
  int64_t positions = 0;  // RoPE table rows; at least the longest document
  float z_loss = 0;
  bool training = true;  // false: no slots survive a block
};

// Device buffers of one micro-batch's inputs.
struct MicroInputs {
  Tensor ids, labels, docs;  // [T] i32
};

class Model {
 public:
  Model(const ModelConfig& config, Precision precision)
      : Model(config, precision, Stage::whole(config)) {}
  Model(const ModelConfig& config, Precision precision, const Stage& stage);

  // Storage of activations and buffers. Parameters must be bound (parallel/store.h) before anything
  // runs.
  void plan(Memory& memory, const ModelPlan& plan);
  void prepare(Ctx& c);  // fills constant tables; once, after plan

  // slot: which of the in_flight sets of saved values this micro-batch uses.
  void forward(Ctx& c, int64_t slot, const Extent& extent);
  // Loss and all gradients, after forward of the same slot. Weight gradients by c.grad; loss sums
  // accumulate unless c.grad overwrites.
  void backward(Ctx& c, int64_t slot, const Extent& extent);
  // Loss alone, into loss_sum (Overwrite or Accumulate).
  void loss(Ctx& c, int64_t slot, const Extent& extent, Grad grad);
  // Logits of all positions, piece by piece, never all at once: f(first row, one past the last, [rows, >= vocab] in
  // the compute dtype); columns from vocab on are padding.
  using LogitRows = std::function<void(int64_t, int64_t, const Tensor&)>;
  void each_logits(Ctx& c, int64_t slot, const Extent& extent, const LogitRows& f) {
    for_chunks(c, slots_[slot], extent, f);
  }
  // The residual stream where a stage begins and ends, [T, d]: without an embedding the input is
  // written before forward. The gradient, [T, d] too, is of the output before backward, where without
  // a head it is written; after it, of the input.
  Tensor input(int64_t slot, const Extent& extent) const;
  Tensor output(int64_t slot, const Extent& extent) const;
  Tensor gradient(const Extent& extent) const;
  // Value l of the residual stream (0: scaled embedding), and for l = layers the final norm's
  // output.
  Tensor hidden(int64_t slot, int64_t layer, const Extent& extent) const;

  // Decoding: one sequence, its next tokens; logits of the last position [1, vocab] fp32.
  struct Cache {
    std::vector<Block::Cache> blocks;
    int64_t length = 0;
  };
  Cache make_cache(Memory& memory, int64_t capacity) const;
  void decode(Ctx& c, Cache& cache, int64_t tokens, const Tensor& out);

  void visit(const std::function<void(Param&)>& f);

  const ModelConfig& config() const { return config_; }
  const Precision& precision() const { return precision_; }
  const std::string& pattern() const { return pattern_; }
  const MicroInputs& inputs(int64_t slot) const { return slots_[slot].inputs; }
  Tensor loss_sum() const { return loss_sum_; }  // [1] f64: sum of cross-entropies
  // [T] f32: each token's cross-entropy as the last loss() or backward() left it; 0 where ignored.
  Tensor token_losses(const Extent& extent) const {
    return losses_.view({losses_.size()}).row_range(0, extent.tokens());
  }
  // [layers] f32: the largest dt of each Mamba-2 mixer over all forward passes since it was last
  // filled with 0; absent where the model is not planned for training.
  Tensor dt_peaks() const { return dt_peaks_; }
  Tensor z_sum() const { return z_sum_; }  // [1] f64: sum of squared log-normalisers
  Tensor inv_count() const {
    return inv_count_;
  }  // [1] f32: 1 / valid tokens of the step in the world
  int64_t padded_vocab() const { return padded_vocab_; }

 private:
  struct SlotSet {
    MicroInputs inputs;
    std::vector<Tensor> stream;  // [T, d] values between blocks, residual dtype
    Tensor final, rstd;          // final norm
    std::vector<SlotBank> banks;
  };
  BlockInputs block_inputs(const SlotSet& set, const Extent& extent) const;
  MicroInputs cut(const SlotSet& set, const Extent& extent) const;
  void embed(Ctx& c, const SlotSet& set, const Extent& extent) const;
  void final_norm(Ctx& c, const SlotSet& set, const Extent& extent);
  void head_backward(Ctx& c, const SlotSet& set, const Extent& extent);
  // Over chunks of tokens: logits, then f(first row, last row, logits).
  void for_chunks(Ctx& c, const SlotSet& set, const Extent& extent,
                  const std::function<void(int64_t, int64_t, const Tensor&)>& f);
  void add_losses(Ctx& c, const Tensor& losses, Grad grad);

  ModelConfig config_;
  Precision precision_;
  Stage stage_;
  std::string pattern_;
  int64_t padded_vocab_;
  ModelPlan plan_;
  Param embed_, head_;
  Norm final_norm_;
  std::vector<Block> blocks_;
  std::vector<SlotSet> slots_;
  Tensor rope_, dstream_, dt_peaks_, losses_, loss_sum_, z_sum_, inv_count_;
  SharedSlots shared_;
};

}  // namespace ft
