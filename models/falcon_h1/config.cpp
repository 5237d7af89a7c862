// What a model configuration means: its options, derived fields and checks.
#include "models/falcon_h1/config.h"

#include "core/options.h"

#include <cctype>
#include <cmath>
#include <limits>

namespace ft {

ModelConfig::ModelConfig() : time_step_limit{0, std::numeric_limits<double>::infinity()} {}

namespace {

const OptionRange kPositive{.min = 0, .open_min = true};
constexpr int64_t kMaxSize = int64_t{1} << 40;

void describe_shape(OptionVisitor& v, ModelConfig& c) {
  v.integer("vocab_size", c.vocab_size, "token ids are 0 to vocab_size - 1", 1, std::numeric_limits<int32_t>::max());
  v.flag("tie_word_embeddings", c.tie_word_embeddings, "the output head is the embedding table");
  v.integer("hidden_size", c.hidden_size, "width of the residual stream", 1, kMaxSize);
  v.integer("intermediate_size", c.intermediate_size, "width of the MLP", 1, kMaxSize);
  v.integer("num_hidden_layers", c.num_hidden_layers, "number of blocks", 1, 1 << 20);
  v.integer("num_attention_heads", c.num_attention_heads, "query heads", 1, 1 << 20);
  v.automatic("num_key_value_heads", c.num_key_value_heads, "key and value heads; auto: as many as query heads");
  v.automatic("head_dim", c.head_dim, "width of an attention head; auto: hidden_size / num_attention_heads");
  v.text("hidden_act", c.hidden_act, "activation of MLP and convolution; silu only");
  v.number("initializer_range", c.initializer_range, "standard deviation of initial weights", {.min = 0});
  v.number("rms_norm_eps", c.rms_norm_eps, "epsilon of every RMSNorm", kPositive);
  v.optional_integer("pad_token_id", c.pad_token_id, "this id's embedding gets no gradient");
  v.optional_integer("bos_token_id", c.bos_token_id, "begin of text; kept for export");
  v.integers("eos_token_id", c.eos_token_id, "end of text; ends generation");
  v.integer("max_position_embeddings", c.max_position_embeddings, "longest context; kept for export", 1, kMaxSize);
  v.number("rope_theta", c.rope_theta, "base of the rotary frequencies", kPositive);
  v.number("attention_dropout", c.attention_dropout, "0 only", {.min = 0, .max = 1});
  v.flag("attention_bias", c.attention_bias, "bias on q, k, v and o");
  v.flag("mlp_bias", c.mlp_bias, "bias on gate, up and down");
  v.flag("projectors_bias", c.projectors_bias, "bias on the Mamba out_proj");
}

void describe_mamba(OptionVisitor& v, ModelConfig& c) {
  v.automatic("mamba_d_ssm", c.mamba_d_ssm, "width of the Mamba mixer; auto: mamba_expand * hidden_size");
  v.integer("mamba_n_heads", c.mamba_n_heads, "Mamba heads", 1, 1 << 20);
  v.automatic("mamba_d_head", c.mamba_d_head, "width of a Mamba head; auto: mamba_d_ssm / mamba_n_heads");
  v.integer("mamba_n_groups", c.mamba_n_groups, "groups of heads that share B and C", 1, 1 << 20);
  v.integer("mamba_d_state", c.mamba_d_state, "state size of a head", 1, 1 << 20);
  v.integer("mamba_d_conv", c.mamba_d_conv, "taps of the causal convolution", 1, 1024);
  v.integer("mamba_expand", c.mamba_expand, "used where mamba_d_ssm is auto", 1, 1 << 20);
  v.integer("mamba_chunk_size", c.mamba_chunk_size, "chunk of the scan; rounding only", 1, 1 << 20);
  v.flag("mamba_conv_bias", c.mamba_conv_bias, "bias of the convolution");
  v.flag("mamba_proj_bias", c.mamba_proj_bias, "bias of the Mamba in_proj");
  v.flag("mamba_norm_before_gate", c.mamba_norm_before_gate, "where mamba_rms_norm: normalise, then gate");
  v.flag("mamba_rms_norm", c.mamba_rms_norm, "gated RMSNorm before out_proj");
  v.number("time_step_min", c.time_step_min, "smallest initial dt (init: mamba_ssm)", kPositive);
  v.number("time_step_max", c.time_step_max, "largest initial dt (init: mamba_ssm)", kPositive);
  v.numbers("time_step_limit", c.time_step_limit.data(), 2, "dt is clamped to this after softplus", {.min = 0});
}

void describe_multipliers(OptionVisitor& v, ModelConfig& c) {
  v.number("lm_head_multiplier", c.lm_head_multiplier, "on the logits");
  v.number("embedding_multiplier", c.embedding_multiplier, "on the embedding");
  v.number("key_multiplier", c.key_multiplier, "on the keys");
  v.number("attention_in_multiplier", c.attention_in_multiplier, "on what enters q, k, v");
  v.number("attention_out_multiplier", c.attention_out_multiplier, "on what leaves the attention");
  v.number("ssm_in_multiplier", c.ssm_in_multiplier, "on what enters in_proj");
  v.number("ssm_out_multiplier", c.ssm_out_multiplier, "on what leaves the Mamba mixer");
  v.numbers("mlp_multipliers", c.mlp_multipliers.data(), 2, "on gate_proj and down_proj");
  v.numbers("ssm_multipliers", c.ssm_multipliers.data(), 5, "on z, x, B, C and dt");
}

void check_divides(const char* part_name, int64_t part, const char* whole_name, int64_t whole) {
  FT_CHECK_CONFIG(whole % part == 0, "model.{} = {} must divide model.{} = {}", part_name, part, whole_name, whole);
}

void derive(ModelConfig& c) {
  if (c.num_key_value_heads == 0) c.num_key_value_heads = c.num_attention_heads;
  if (c.head_dim == 0) {
    FT_CHECK_CONFIG(c.hidden_size % c.num_attention_heads == 0,
                    "model.head_dim is not given and model.hidden_size = {} is no multiple of "
                    "model.num_attention_heads = {}; write head_dim", c.hidden_size, c.num_attention_heads);
    c.head_dim = c.hidden_size / c.num_attention_heads;
  }
  if (c.mamba_d_ssm == 0) c.mamba_d_ssm = c.mamba_expand * c.hidden_size;
  if (c.mamba_d_head == 0) {
    check_divides("mamba_n_heads", c.mamba_n_heads, "mamba_d_ssm", c.mamba_d_ssm);
    c.mamba_d_head = c.mamba_d_ssm / c.mamba_n_heads;
  }
}

}  // namespace

void describe(OptionVisitor& v, ModelConfig& c) {
  v.consumed("config", "a Hugging Face config.json (relative to this file); keys given here override it", "\"\"");
  describe_shape(v, c);
  describe_mamba(v, c);
  describe_multipliers(v, c);
  v.text("layer_pattern", c.layer_pattern,
         "blocks: P hybrid, M Mamba-2, A attention, F MLP; \"P*36\", \"P4 M2 A1 F1\"; empty: all P");
  v.choice("linear", c.linear, "kind of linear layers; bf16: ordinary, in train.precision", {"bf16", "bitnet"});
  v.choice("init", c.init, "initial weights as transformers (hf) or mamba_ssm makes them", {"hf", "mamba_ssm"});
  v.text("init_from", c.init_from, "Hugging Face folder whose weights (and config.json) to start from");
}

void ModelConfig::finish() {
  derive(*this);
  const auto positive = [](const char* name, int64_t value) {
    FT_CHECK_CONFIG(value > 0 && value <= kMaxSize, "model.{} = {}: expected a whole number from 1 to {}", name, value,
                    kMaxSize);
  };
  positive("vocab_size", vocab_size), positive("hidden_size", hidden_size);
  positive("intermediate_size", intermediate_size), positive("num_hidden_layers", num_hidden_layers);
  positive("num_attention_heads", num_attention_heads), positive("num_key_value_heads", num_key_value_heads);
  positive("head_dim", head_dim), positive("mamba_d_ssm", mamba_d_ssm), positive("mamba_n_heads", mamba_n_heads);
  positive("mamba_d_head", mamba_d_head), positive("mamba_n_groups", mamba_n_groups);
  positive("mamba_d_state", mamba_d_state), positive("mamba_d_conv", mamba_d_conv);
  positive("mamba_chunk_size", mamba_chunk_size);
  check_divides("num_key_value_heads", num_key_value_heads, "num_attention_heads", num_attention_heads);
  FT_CHECK_CONFIG(head_dim % 2 == 0, "model.head_dim = {} must be even (rotary halves)", head_dim);
  FT_CHECK_CONFIG(mamba_d_head <= kMaxSize / mamba_n_heads && mamba_n_heads * mamba_d_head == mamba_d_ssm,
                  "model.mamba_n_heads = {} times model.mamba_d_head = {} must equal model.mamba_d_ssm = {}",
                  mamba_n_heads, mamba_d_head, mamba_d_ssm);
  check_divides("mamba_n_groups", mamba_n_groups, "mamba_n_heads", mamba_n_heads);
  FT_CHECK_CONFIG(hidden_act == "silu", "model.hidden_act = {}: only silu is known", hidden_act);
  FT_CHECK_CONFIG(attention_dropout == 0, "model.attention_dropout = {}: only 0 is known", attention_dropout);
  FT_CHECK_CONFIG(!pad_token_id || *pad_token_id < vocab_size,
                  "model.pad_token_id = {} is outside the vocabulary of {} (vocab_size)", *pad_token_id, vocab_size);
  FT_CHECK_CONFIG(time_step_limit[0] <= time_step_limit[1], "model.time_step_limit = [{}, {}]: the first is the larger",
                  time_step_limit[0], time_step_limit[1]);
  FT_CHECK_CONFIG(time_step_min <= time_step_max, "model.time_step_min = {} is above model.time_step_max = {}",
                  time_step_min, time_step_max);
  FT_CHECK_CONFIG(linear != "bitnet", "model.linear = bitnet: BitNet layers are not built yet; use bf16");
  FT_CHECK_CONFIG(linear == "bf16", "model.linear = {}: expected bf16", linear);
  FT_CHECK_CONFIG(init == "hf" || init == "mamba_ssm", "model.init = {}: expected hf or mamba_ssm", init);
  expand_pattern(layer_pattern, num_hidden_layers);
}

std::string expand_pattern(const std::string& pattern, int64_t layers) {
  std::string out;
  size_t i = 0;
  const auto skip_blanks = [&] {
    while (i < pattern.size() && std::isspace(static_cast<unsigned char>(pattern[i]))) ++i;
  };
  for (skip_blanks(); i < pattern.size(); skip_blanks()) {
    const char symbol = pattern[i++];
    FT_CHECK_CONFIG(std::string("PMAF").find(symbol) != std::string::npos,
                    "model.layer_pattern \"{}\": '{}' is not a block; expected P (hybrid), M (Mamba-2), A (attention) or "
                    "F (MLP), each with an optional count, such as \"P*36\" or \"P4 M2\"", pattern, symbol);
    const bool star = i < pattern.size() && pattern[i] == '*';
    i += star;
    int64_t count = 0;
    const size_t digits = i;
    for (; i < pattern.size() && std::isdigit(static_cast<unsigned char>(pattern[i])) && count <= layers; ++i)
      count = count * 10 + (pattern[i] - '0');
    FT_CHECK_CONFIG(!star || i > digits, "model.layer_pattern \"{}\": a number is missing after '*'", pattern);
    if (i == digits) count = 1;
    FT_CHECK_CONFIG(count > 0, "model.layer_pattern \"{}\": a count of 0", pattern);
    FT_CHECK_CONFIG(count + static_cast<int64_t>(out.size()) <= layers,
                    "model.layer_pattern \"{}\" has more blocks than model.num_hidden_layers = {}", pattern, layers);
    out.append(static_cast<size_t>(count), symbol);
  }
  if (out.empty()) out.assign(static_cast<size_t>(layers), 'P');
  FT_CHECK_CONFIG(static_cast<int64_t>(out.size()) == layers,
                  "model.layer_pattern \"{}\" has {} blocks, but model.num_hidden_layers = {}", pattern, out.size(), layers);
  return out;
}

}  // namespace ft
