// The shape of a hybrid decoder: fields of Hugging Face's config.json by Falcon-H1's names for them,
// and ours. models/families reads and writes it.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace ft {

// The decoder's names of the two tables of its vocabulary.
inline constexpr const char* kEmbeddingName = "model.embed_tokens.weight";
inline constexpr const char* kHeadName = "lm_head.weight";

// Defaults are those of transformers' FalconH1Config but for rope_theta, where they are those of the
// released models. 0 in a field marked (derived) means "work it out".
struct ModelConfig {
  std::string model_type = "falcon_h1";  // the family whose files these settings are from
  int64_t vocab_size = 128000;
  bool tie_word_embeddings = false;
  int64_t hidden_size = 4096;
  int64_t intermediate_size = 14336;
  int64_t num_hidden_layers = 32;
  int64_t num_attention_heads = 32;
  int64_t num_key_value_heads = 8;  // (derived) = num_attention_heads
  int64_t head_dim = 0;             // (derived) = hidden_size / num_attention_heads
  std::string hidden_act = "silu";
  double initializer_range = 0.02;
  double rms_norm_eps = 1e-5;
  std::optional<int64_t> pad_token_id = 0;
  std::optional<int64_t> bos_token_id = 1;
  std::vector<int64_t> eos_token_id = {2};
  int64_t max_position_embeddings = 8192;
  double rope_theta = 1e11;
  double attention_dropout = 0;
  bool attention_bias = false, mlp_bias = false, projectors_bias = false;
  int64_t mamba_d_ssm = 1024;  // (derived) = mamba_expand * hidden_size
  int64_t mamba_n_heads = 128;
  int64_t mamba_d_head = 0;  // (derived) = mamba_d_ssm / mamba_n_heads
  int64_t mamba_n_groups = 1;
  int64_t mamba_d_state = 256;
  int64_t mamba_d_conv = 4;
  int64_t mamba_expand = 2;
  int64_t mamba_chunk_size = 256;
  bool mamba_conv_bias = true, mamba_proj_bias = false;
  bool mamba_norm_before_gate = true, mamba_rms_norm = false;
  double time_step_min = 0.001, time_step_max = 0.1;
  std::array<double, 2> time_step_limit;  // [0, infinity]
  double lm_head_multiplier = 1, embedding_multiplier = 1, key_multiplier = 1;
  double attention_in_multiplier = 1, attention_out_multiplier = 1;
  double ssm_in_multiplier = 1, ssm_out_multiplier = 1;
  std::array<double, 2> mlp_multipliers = {1, 1};           // gate, down
  std::array<double, 5> ssm_multipliers = {1, 1, 1, 1, 1};  // z, x, B, C, dt

  std::string layer_pattern;    // "" = "P*L"
  std::string linear = "bf16";  // an ordinary linear in the compute precision
  std::string init = "hf";      // hf | mamba_ssm
  std::string init_from;        // Hugging Face folder whose weights to start from

  ModelConfig();
  bool operator==(const ModelConfig&) const = default;
  // Fills the derived fields and checks that all fit together; throws ConfigError.
  void finish();
};

// "P*36", "P4 M2 A1 F1", "PPM" -> one symbol a layer; "" -> all P. Throws ConfigError where the
// count is not `layers` or a symbol is unknown.
std::string expand_pattern(const std::string& pattern, int64_t layers);

}  // namespace ft
