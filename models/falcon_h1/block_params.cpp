// Where each Hugging Face tensor of a block lies in our storage, how it starts, and which
// multiplier its consumer applies.
#include "models/falcon_h1/block.h"

#include <cmath>

namespace ft {

namespace {

constexpr int64_t kPadTo = 16;  // columns of the merged projection
int64_t pad(int64_t n) { return (n + kPadTo - 1) / kPadTo * kPadTo; }

Init normal(const ModelConfig& m) { return {Init::Kind::Normal, m.initializer_range}; }

// A parameter that is one Hugging Face vector.
Param vector_param(const std::string& name, int64_t size, Init init) {
  Param p{.rows = size, .always_fp32 = true};
  p.pieces.push_back({.name = name, .shape = {size}, .rows = size, .init = init, .decay = false});
  return p;
}

// A whole Hugging Face matrix [rows, cols] at (row, col) of the storage.
Piece matrix(const std::string& name, int64_t row, int64_t col, int64_t rows, int64_t cols,
             Init init, Cut cut) {
  return {.name = name,
          .shape = {rows, cols},
          .row = row,
          .col = col,
          .rows = rows,
          .cols = cols,
          .init = init,
          .cut = cut};
}

float f(double value) { return static_cast<float>(value); }

}  // namespace

Block::Block(const ModelConfig& m, Precision precision, int64_t layer, char symbol)
    : precision_(precision),
      label_(fmt::format("model.layers.{}.", layer)),
      symbol_(symbol),
      hidden_(m.hidden_size),
      intermediate_(m.intermediate_size),
      eps_(f(m.rms_norm_eps)),
      gate_scale_(f(m.mlp_multipliers[0])),
      down_scale_(f(m.mlp_multipliers[1])) {
  if (mamba()) declare_mamba(m);
  if (mixers()) declare_mixers(m);
  declare_mlp(m);
}

void Block::declare_mamba(const ModelConfig& m) {
  const std::string name = label_ + "mamba.";
  const int64_t H = m.mamba_n_heads, k = m.mamba_d_conv;
  mamba_ = {.heads = H,
            .head_dim = m.mamba_d_head,
            .groups = m.mamba_n_groups,
            .state = m.mamba_d_state,
            .chunk = m.mamba_chunk_size,
            .z_scale = f(m.ssm_in_multiplier * m.ssm_multipliers[0]),
            .out_scale = f(m.ssm_out_multiplier),
            .dt_limits = {.scale = f(m.ssm_in_multiplier * m.ssm_multipliers[4]),
                          .min = f(m.time_step_limit[0]),
                          .max = f(m.time_step_limit[1])},
            .xbc_scales = {f(m.ssm_in_multiplier * m.ssm_multipliers[1]),
                           f(m.ssm_in_multiplier * m.ssm_multipliers[2]),
                           f(m.ssm_in_multiplier * m.ssm_multipliers[3])},
            .eps = f(m.rms_norm_eps),
            .norm_before_gate = m.mamba_norm_before_gate};
  const bool hf = m.init == "hf";
  // torch's Conv1d: kaiming_uniform(sqrt 5), fan-in k
  const double bound = 1 / std::sqrt(static_cast<double>(k));
  const Init uniform{Init::Kind::Uniform, -bound, bound};
  const int64_t C = mamba_.xbc();
  mamba_.conv = {.rows = C, .cols = k, .always_fp32 = true};
  mamba_.conv.pieces.push_back({.name = name + "conv1d.weight",
                                .shape = {C, 1, k},
                                .rows = C,
                                .cols = k,
                                .init = uniform,
                                .decay = false});
  if (m.mamba_conv_bias) mamba_.conv_bias = vector_param(name + "conv1d.bias", C, uniform);
  mamba_.dt_bias =
      vector_param(name + "dt_bias", H,
                   hf ? Init{Init::Kind::One}
                      : Init{Init::Kind::DtBias, m.time_step_min, m.time_step_max, 1e-4});
  mamba_.a_log = vector_param(
      name + "A_log", H, hf ? Init{Init::Kind::LogRange} : Init{Init::Kind::LogUniform, 1, 16});
  mamba_.d = vector_param(name + "D", H, {Init::Kind::One});
  if (m.mamba_rms_norm)
    mamba_.norm = vector_param(name + "norm.weight", mamba_.inner(), {Init::Kind::One});
}

void Block::declare_mixers(const ModelConfig& m) {
  const int64_t d = hidden_;
  const int64_t ds = mamba() ? mamba_.inner() : 0, gn = mamba() ? mamba_.groups * mamba_.state : 0;
  const int64_t H = mamba() ? mamba_.heads : 0;
  if (attention())
    attention_ = {.heads = m.num_attention_heads,
                  .kv_heads = m.num_key_value_heads,
                  .head_dim = m.head_dim,
                  .q_scale = f(m.attention_in_multiplier),
                  .k_scale = f(m.attention_in_multiplier * m.key_multiplier),
                  .out_scale = f(m.attention_in_multiplier * m.attention_out_multiplier)};
  const int64_t nq = attention() ? attention_.q_cols() : 0,
                nkv = attention() ? attention_.kv_cols() : 0;

  cols_ = {.z = 0, .xbc = ds, .q = 2 * ds + 2 * gn};
  cols_.k = cols_.q + nq;
  cols_.v = cols_.k + nkv;
  cols_.dt = cols_.v + nkv;
  cols_.end = cols_.dt + H;
  cols_.padded = pad(cols_.end);

  norm_ = vector_param(label_ + "input_layernorm.weight", d, {Init::Kind::One});
  in_proj_.weight = {.rows = cols_.padded, .cols = d};
  out_proj_.weight = {.rows = d, .cols = nq + ds};
  if (mamba()) {
    const std::string name = label_ + "mamba.";
    const int64_t rows = 2 * ds + 2 * gn + H;
    int64_t at = 0;  // rows of the Hugging Face tensor: z, x, B, C, dt
    const auto section = [&](const char* section_name, int64_t storage_row, int64_t size,
                             double multiplier) {
      in_proj_.weight.pieces.push_back({.name = name + "in_proj.weight",
                                        .section = section_name,
                                        .shape = {rows, d},
                                        .tensor_row = at,
                                        .row = storage_row,
                                        .rows = size,
                                        .cols = d,
                                        .init = normal(m),
                                        .cut = Cut::Out});
      if (m.mamba_proj_bias) {
        // The consumer multiplies by ssm_in * multiplier; the bias wants the second factor only.
        Param bias = vector_param(name + "in_proj.bias", size, {});
        bias.pieces[0].section = section_name;
        bias.pieces[0].shape = {rows};
        bias.pieces[0].tensor_row = at;
        in_proj_.biases.push_back({bias, storage_row, f(1 / multiplier)});
      }
      at += size;
    };
    section("z", cols_.z, ds, m.ssm_in_multiplier);
    section("x", cols_.xbc, ds, m.ssm_in_multiplier);
    section("B", cols_.xbc + ds, gn, m.ssm_in_multiplier);
    section("C", cols_.xbc + ds + gn, gn, m.ssm_in_multiplier);
    section("dt", cols_.dt, H, m.ssm_in_multiplier);
    out_proj_.weight.pieces.push_back(
        matrix(name + "out_proj.weight", 0, nq, d, ds, normal(m), Cut::In));
    if (m.projectors_bias)
      out_proj_.biases.push_back(
          {vector_param(name + "out_proj.bias", d, {}), 0, f(m.ssm_out_multiplier)});
  }
  if (attention()) {
    const std::string name = label_ + "self_attn.";
    const auto projection = [&](const char* which, int64_t storage_row, int64_t size) {
      in_proj_.weight.pieces.push_back(
          matrix(name + which + "_proj.weight", storage_row, 0, size, d, normal(m), Cut::Out));
      if (m.attention_bias)
        in_proj_.biases.push_back({vector_param(name + which + "_proj.bias", size, {}), storage_row,
                                   f(1 / m.attention_in_multiplier)});
    };
    projection("q", cols_.q, nq);
    projection("k", cols_.k, nkv);
    projection("v", cols_.v, nkv);
    out_proj_.weight.pieces.push_back(
        matrix(name + "o_proj.weight", 0, 0, d, nq, normal(m), Cut::In));
    if (m.attention_bias)
      out_proj_.biases.push_back(
          {vector_param(name + "o_proj.bias", d, {}), 0, f(m.attention_out_multiplier)});
  }
}

void Block::declare_mlp(const ModelConfig& m) {
  const std::string name = label_ + "feed_forward.";
  const int64_t d = hidden_, i = intermediate_;
  ff_norm_ = vector_param(label_ + "pre_ff_layernorm.weight", d, {Init::Kind::One});
  gate_up_.weight = {.rows = 2 * i, .cols = d};
  gate_up_.weight.pieces = {matrix(name + "gate_proj.weight", 0, 0, i, d, normal(m), Cut::Out),
                            matrix(name + "up_proj.weight", i, 0, i, d, normal(m), Cut::Out)};
  down_.weight = {.rows = d, .cols = i};
  down_.weight.pieces = {matrix(name + "down_proj.weight", 0, 0, d, i, normal(m), Cut::In)};
  if (m.mlp_bias) {
    gate_up_.biases.push_back({vector_param(name + "gate_proj.bias", i, {}), 0, 1});
    gate_up_.biases.push_back({vector_param(name + "up_proj.bias", i, {}), i, 1});
    down_.biases.push_back({vector_param(name + "down_proj.bias", d, {}), 0, down_scale_});
  }
}

Block::Cache Block::make_cache(Memory& memory, int64_t capacity) const {
  Cache cache;
  const Dtype act = precision_.compute;
  if (attention()) {
    cache.attention.k = memory.make("cache", act, {capacity, attention_.kv_cols()});
    cache.attention.v = memory.make("cache", act, {capacity, attention_.kv_cols()});
  }
  if (mamba()) {
    cache.mamba.history =
        memory.make("cache", act, {std::max<int64_t>(mamba_.conv.cols - 1, 1), mamba_.xbc()});
    cache.mamba.state = memory.make("cache", Dtype::F32, {1, mamba_.inner() * mamba_.state});
    cache.mamba.next_state = memory.make("cache", Dtype::F32, {1, mamba_.inner() * mamba_.state});
  }
  return cache;
}

}  // namespace ft
