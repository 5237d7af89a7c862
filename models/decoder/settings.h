// The decoder's settings, each described once (core/options.h), under their names in Hugging Face's
// config.json. A family of models has some of them.
#pragma once

#include "core/options.h"
#include "models/decoder/config.h"

#include <limits>

namespace ft {

inline constexpr Range kSize{1, 1e9};  // products of two fit 63 bits

template <class V>
void describe(V& v, ModelConfig& c) {
  v("vocab_size", c.vocab_size, "tokens of the vocabulary", kSize);
  v("tie_word_embeddings", c.tie_word_embeddings, "the head is the embedding table");
  v("hidden_size", c.hidden_size, "width of the residual stream", kSize);
  v("intermediate_size", c.intermediate_size, "width of the MLP", kSize);
  v("num_hidden_layers", c.num_hidden_layers, "blocks", Range{1, 1e5});
  v("num_attention_heads", c.num_attention_heads, "query heads", kSize);
  v.derived("num_key_value_heads", c.num_key_value_heads, "key and value heads");
  v.derived("head_dim", c.head_dim, "width of an attention head");
  v("hidden_act", c.hidden_act, "activation of MLP and conv", Choices{{"silu"}});
  v("initializer_range", c.initializer_range, "standard deviation of initial matrices",
    Range{0, 100});
  v("rms_norm_eps", c.rms_norm_eps, "epsilon of every norm", Range{0, 1});
  v("pad_token_id", c.pad_token_id, "this id's embedding gets no gradient; null: none");
  v("bos_token_id", c.bos_token_id, "first token of a text");
  v("max_position_embeddings", c.max_position_embeddings, "longest context the model is meant for",
    Range{1, 1e12});
  v("rope_theta", c.rope_theta, "base of the rotary positions", Range{1, 1e300});
  v("attention_dropout", c.attention_dropout, "must be 0", Range{0, 0});
  v("attention_bias", c.attention_bias, "biases of q, k, v, o");
  v("mlp_bias", c.mlp_bias, "biases of gate, up, down");
  v("projectors_bias", c.projectors_bias, "bias of the mixer's out_proj");
  v.derived("mamba_d_ssm", c.mamba_d_ssm, "width of the mixer");
  v("mamba_n_heads", c.mamba_n_heads, "heads of the mixer", kSize);
  v.derived("mamba_d_head", c.mamba_d_head, "width of a mixer head");
  v("mamba_n_groups", c.mamba_n_groups, "groups that share B and C", kSize);
  v("mamba_d_state", c.mamba_d_state, "state size", kSize);
  v("mamba_d_conv", c.mamba_d_conv, "taps of the causal convolution", Range{1, 64});
  v("mamba_expand", c.mamba_expand, "mixer width over hidden_size, where mamba_d_ssm is null",
    kSize);
  v("mamba_chunk_size", c.mamba_chunk_size, "tokens of a scan chunk; changes rounding only",
    Range{1, 1e6});
  v("mamba_conv_bias", c.mamba_conv_bias, "bias of the convolution");
  v("mamba_proj_bias", c.mamba_proj_bias, "bias of the mixer's in_proj");
  v("mamba_norm_before_gate", c.mamba_norm_before_gate,
    "the gated norm normalises before it gates");
  v("mamba_rms_norm", c.mamba_rms_norm, "the gate carries a grouped RMSNorm");
  v("time_step_min", c.time_step_min, "smallest initial dt (init: mamba_ssm)", Range{0, 1e9});
  v("time_step_max", c.time_step_max, "largest initial dt (init: mamba_ssm)", Range{0, 1e9});
  v("time_step_limit", c.time_step_limit, "dt is clamped to this",
    Range{0, std::numeric_limits<double>::infinity()});
  v("lm_head_multiplier", c.lm_head_multiplier, "factor of the logits");
  v("embedding_multiplier", c.embedding_multiplier, "factor of the embedding");
  v("key_multiplier", c.key_multiplier, "factor of the keys");
  v("attention_in_multiplier", c.attention_in_multiplier, "factor of the attention's input");
  v("attention_out_multiplier", c.attention_out_multiplier, "factor of the attention's output");
  v("ssm_in_multiplier", c.ssm_in_multiplier, "factor of the mixer's input");
  v("ssm_out_multiplier", c.ssm_out_multiplier, "factor of the mixer's output");
  v("mlp_multipliers", c.mlp_multipliers, "factors of gate and down");
  v("ssm_multipliers", c.ssm_multipliers, "factors of z, x, B, C, dt");
}

// Those that no config.json has.
template <class V>
void describe_ours(V& v, ModelConfig& c) {
  v("layer_pattern", c.layer_pattern,
    "P both mixers, M Mamba-2, A attention, F MLP only; \"P4 M2\"; empty: all P");
  v("linear", c.linear, "kind of the linear layers", Choices{{"bf16", "bitnet"}});
  v("init", c.init, "starting values as in transformers or in mamba_ssm",
    Choices{{"hf", "mamba_ssm"}});
  v("init_from", c.init_from, "Hugging Face folder whose weights to start from");
}

}  // namespace ft
