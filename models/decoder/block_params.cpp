// Where each tensor of a block lies in our storage, how it starts, and which multiplier its consumer
// applies. Names are the decoder's own, those of Falcon-H1 in Hugging Face's files; a family that
// calls them otherwise says so (models/families).
#include "models/decoder/block.h"
#include "models/layers/declare.h"

namespace ft {

namespace {

Init normal(const ModelConfig& m) { return {Init::Kind::Normal, m.initializer_range}; }

float f(double value) { return static_cast<float>(value); }

}  // namespace

Block::Block(const ModelConfig& m, Precision precision, int64_t layer, char symbol)
    : precision_(precision),
      label_(fmt::format("model.layers.{}.", layer)),
      symbol_(symbol),
      hidden_(m.hidden_size) {
  if (mamba()) declare_mamba(m);
  if (mixers()) declare_mixers(m);
  ff_norm_.declare(label_ + "pre_ff_layernorm.weight", hidden_, m.rms_norm_eps);
  mlp_ = {.width = m.intermediate_size,
          .gate_scale = f(m.mlp_multipliers[0]),
          .down_scale = f(m.mlp_multipliers[1])};
  mlp_.declare(label_ + "feed_forward.", hidden_, normal(m), m.mlp_bias);
}

void Block::declare_mamba(const ModelConfig& m) {
  mamba_ = {.heads = m.mamba_n_heads,
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
  Mamba2::Start start{.conv_bias = m.mamba_conv_bias, .norm = m.mamba_rms_norm};
  if (m.init == "hf") {
    start.dt_bias = {Init::Kind::One}, start.a_log = {Init::Kind::LogRange};
  } else {
    start.dt_bias = {Init::Kind::DtBias, m.time_step_min, m.time_step_max, 1e-4};
    start.a_log = {Init::Kind::LogUniform, 1, 16};
  }
  mamba_.declare(label_ + "mamba.", m.mamba_d_conv, start);
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
  cols_.padded = Layout::aligned(cols_.end, Layout::segment_align);

  norm_.declare(label_ + "input_layernorm.weight", d, m.rms_norm_eps);
  in_proj_.weight = {.rows = cols_.padded, .cols = d};
  out_proj_.weight = {.rows = d, .cols = nq + ds};
  if (mamba()) declare_mamba_projections(m);
  if (attention()) declare_attention_projections(m);
}

void Block::declare_mamba_projections(const ModelConfig& m) {
  const std::string name = label_ + "mamba.";
  const int64_t d = hidden_, H = mamba_.heads;
  const int64_t ds = mamba_.inner(), gn = mamba_.groups * mamba_.state;
  const int64_t rows = 2 * ds + 2 * gn + H;
  const Role bias_role{ParamClass::Bias, "mamba"};
  int64_t at = 0;  // rows of the tensor: z, x, B, C, dt
  const auto section = [&](const char* section_name, ParamClass kind, int64_t storage_row,
                           int64_t size) {
    in_proj_.weight.pieces.push_back({.name = name + "in_proj.weight",
                                      .section = section_name,
                                      .shape = {rows, d},
                                      .tensor_row = at,
                                      .row = storage_row,
                                      .rows = size,
                                      .cols = d,
                                      .init = normal(m),
                                      .cut = Cut::Out,
                                      .kind = kind,
                                      .part = "mamba"});
    if (m.mamba_proj_bias) {
      // The consumer multiplies by ssm_in and a factor of the section; the bias wants the latter.
      Param bias = vector_param(name + "in_proj.bias", size, {}, bias_role);
      bias.pieces[0].section = section_name;
      bias.pieces[0].shape = {rows};
      bias.pieces[0].tensor_row = at;
      in_proj_.biases.push_back({bias, storage_row, f(1 / m.ssm_in_multiplier)});
    }
    at += size;
  };
  section("z", ParamClass::InProjZ, cols_.z, ds);
  section("x", ParamClass::InProjX, cols_.xbc, ds);
  section("B", ParamClass::InProjB, cols_.xbc + ds, gn);
  section("C", ParamClass::InProjC, cols_.xbc + ds + gn, gn);
  section("dt", ParamClass::InProjDt, cols_.dt, H);
  out_proj_.weight.pieces.push_back(matrix(name + "out_proj.weight", 0, out_proj_.in() - ds, d, ds,
                                           normal(m), Cut::In, {ParamClass::OutProj, "mamba"}));
  if (m.projectors_bias)
    out_proj_.biases.push_back(
        {vector_param(name + "out_proj.bias", d, {}, bias_role), 0, f(m.ssm_out_multiplier)});
}

void Block::declare_attention_projections(const ModelConfig& m) {
  const std::string name = label_ + "self_attn.";
  const int64_t d = hidden_;
  const auto role = [](ParamClass kind) { return Role{kind, "attention"}; };
  const auto projection = [&](const char* which, ParamClass kind, int64_t storage_row,
                              int64_t size) {
    in_proj_.weight.pieces.push_back(matrix(name + which + "_proj.weight", storage_row, 0, size, d,
                                            normal(m), Cut::Out, role(kind)));
    if (m.attention_bias)
      in_proj_.biases.push_back(
          {vector_param(name + which + "_proj.bias", size, {}, role(ParamClass::Bias)), storage_row,
           f(1 / m.attention_in_multiplier)});
  };
  projection("q", ParamClass::Q, cols_.q, attention_.q_cols());
  projection("k", ParamClass::K, cols_.k, attention_.kv_cols());
  projection("v", ParamClass::V, cols_.v, attention_.kv_cols());
  out_proj_.weight.pieces.push_back(matrix(name + "o_proj.weight", 0, 0, d, attention_.q_cols(),
                                           normal(m), Cut::In, role(ParamClass::O)));
  if (m.attention_bias)
    out_proj_.biases.push_back({vector_param(name + "o_proj.bias", d, {}, role(ParamClass::Bias)),
                                0, f(m.attention_out_multiplier)});
}

}  // namespace ft
