// A small model on two threads with random weights everywhere, for tests of whole models.
#pragma once

#include "app/train/engine.h"
#include "core/rng.h"
#include "cpu/device.h"
#include "parallel/initialise.h"

namespace ft::test {

// Every optional part, and multipliers that none can do without.
inline ModelConfig tiny(const std::string& pattern, int64_t layers) {
  ModelConfig m;
  m.vocab_size = 37, m.hidden_size = 16, m.intermediate_size = 24, m.num_hidden_layers = layers;
  m.num_attention_heads = 4, m.num_key_value_heads = 2, m.head_dim = 6;
  m.mamba_d_ssm = 24, m.mamba_n_heads = 4, m.mamba_n_groups = 2, m.mamba_d_state = 5;
  m.mamba_chunk_size = 4, m.mamba_rms_norm = true, m.mamba_norm_before_gate = false;
  m.attention_bias = m.mlp_bias = m.projectors_bias = m.mamba_proj_bias = true;
  m.initializer_range = 0.3, m.layer_pattern = pattern, m.pad_token_id = std::nullopt;
  m.embedding_multiplier = 1.7, m.lm_head_multiplier = 0.6, m.key_multiplier = 0.8;
  m.attention_in_multiplier = 1.3, m.attention_out_multiplier = 0.7;
  m.ssm_in_multiplier = 1.1, m.ssm_out_multiplier = 0.9;
  m.mlp_multipliers = {0.9, 1.2}, m.ssm_multipliers = {0.8, 1.1, 0.7, 1.2, 0.9};
  m.finish();
  return m;
}

struct ModelRun {
  std::unique_ptr<Device> device;
  Engine engine;
  Batch input;
  double z_loss;

  struct Setting {
    Extent extent;
    Recompute recompute = Recompute::None;
    Precision precision = {};
    float z_loss = 0;
    bool training = true;
    int threads = 2;
  };

  ModelRun(const ModelConfig& model, const Batch& batch, const Setting& s)
      : device(cpu::open_device(s.threads)),
        engine(*device, {.model = model,
                         .precision = s.precision,
                         .plan = {.largest = s.extent,
                                  .recompute = s.recompute,
                                  .positions = s.extent.length,
                                  .z_loss = s.z_loss,
                                  .training = s.training}}),
        input(batch),
        z_loss(s.z_loss) {
    initialise(engine.store(), 7);
    // Values that start at 0 or 1 would hide faults in what multiplies them.
    engine.store().for_pieces([&](Param& p, Piece& piece) {
      const Tensor t = box(p.master, piece);
      std::vector<float> values = engine.memory().transfer().download<float>(t);
      for (size_t i = 0; i < values.size(); ++i)
        values[i] += static_cast<float>(
            0.1 * random_normal(11, Purpose::Test,
                                name_hash(piece.label().data(), piece.label().size()), i));
      engine.memory().transfer().upload(t, values.data());
    });
    engine.refresh_weights();
    engine.set_inv_count(static_cast<double>(input.valid));
  }

  double loss() {
    Ctx c = engine.context();
    const Extent e = engine.feed(0, input);
    engine.model().forward(c, 0, e);
    engine.model().loss(c, 0, e, Grad::Overwrite);
    const double sum =
        engine.read(engine.model().loss_sum()) + z_loss * engine.read(engine.model().z_sum());
    return sum / static_cast<double>(input.valid);
  }
  void backward(Grad grad = Grad::Overwrite) {
    Ctx c = engine.context();
    c.grad = grad;
    const Extent e = engine.feed(0, input);
    engine.model().forward(c, 0, e);
    engine.model().backward(c, 0, e);
  }
  std::vector<float> gradients() {
    std::vector<float> all;
    engine.store().for_pieces([&](Param& p, Piece& piece) {
      const auto values = engine.memory().transfer().download<float>(box(p.grad, piece));
      all.insert(all.end(), values.begin(), values.end());
    });
    return all;
  }
  std::vector<float> logits() {
    Ctx c = engine.context();
    const Extent e = engine.feed(0, input);
    const int64_t vocab = engine.model().config().vocab_size;
    std::vector<float> all(static_cast<size_t>(e.tokens() * vocab));
    engine.model().forward(c, 0, e);
    engine.model().each_logits(c, 0, e, [&](int64_t begin, int64_t, const Tensor& logits) {
      engine.memory().transfer().download(logits.columns(0, vocab), all.data() + begin * vocab);
    });
    return all;
  }
};

}  // namespace ft::test
