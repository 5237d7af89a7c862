#include "models/families/llama.h"

namespace ft {

namespace {

// transformers' LlamaConfig, for both kinds of file.
ModelConfig defaults() {
  ModelConfig c;
  c.model_type = "llama";
  c.vocab_size = 32000;
  c.hidden_size = 4096;
  c.intermediate_size = 11008;
  c.num_hidden_layers = c.num_attention_heads = 32;
  c.num_key_value_heads = 0;  // as many as query heads
  c.rms_norm_eps = 1e-6;
  c.pad_token_id = std::nullopt;
  c.max_position_embeddings = 2048;
  c.rope_theta = 1e4;
  // There is no Mamba-2 mixer: sizes that no bound can mind.
  c.mamba_d_ssm = c.mamba_n_heads = c.mamba_d_head = c.mamba_d_state = 1;
  return c;
}

Family made() {
  Family f;
  f.model_type = "llama";
  f.symbol = "A";
  f.settings = {"vocab_size",
                "tie_word_embeddings",
                "hidden_size",
                "intermediate_size",
                "num_hidden_layers",
                "num_attention_heads",
                "num_key_value_heads",
                "head_dim",
                "hidden_act",
                "initializer_range",
                "rms_norm_eps",
                "pad_token_id",
                "bos_token_id",
                "max_position_embeddings",
                "rope_theta",
                "attention_dropout",
                "attention_bias",
                "mlp_bias",
                "linear",
                "init_from"};
  f.defaults = f.json_defaults = defaults();
  f.fixed = {{"sliding_window", {}},
             {"attn_layer_indices", {}},
             {"layer_types", {"full_attention"}},
             {"pretraining_tp", {"1"}},
             {"partial_rotary_factor", {"1.0", "1"}},
             {"rope_interleaved", {"false"}}};
  f.without_effect = {"is_llama_config", "num_logits_to_keep"};
  f.names = {{".feed_forward.", ".mlp."},
             {".pre_ff_layernorm.", ".post_attention_layernorm."},
             {"model.final_layernorm.", "model.norm."}};
  return f;
}

}  // namespace

const Family& llama() {
  static const Family family = made();
  return family;
}

}  // namespace ft
