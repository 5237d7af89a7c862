#include "models/decoder/config.h"

#include "core/check.h"

#include <algorithm>
#include <cctype>
#include <limits>

namespace ft {

ModelConfig::ModelConfig() : time_step_limit{0, std::numeric_limits<double>::infinity()} {}

void ModelConfig::finish() {
  if (num_key_value_heads == 0) num_key_value_heads = num_attention_heads;
  if (head_dim == 0) head_dim = hidden_size / num_attention_heads;
  if (mamba_d_ssm == 0) mamba_d_ssm = mamba_expand * hidden_size;
  if (mamba_d_head == 0) mamba_d_head = mamba_d_ssm / mamba_n_heads;
  expand_pattern(layer_pattern, num_hidden_layers);
  const double width = static_cast<double>(hidden_size);
  const double heads = 2.0 * static_cast<double>(num_attention_heads + num_key_value_heads);
  const double inner =
      3.0 * static_cast<double>(mamba_d_ssm) +
      2.0 * static_cast<double>(mamba_n_groups) * static_cast<double>(mamba_d_state);
  const double layer = width * (heads * static_cast<double>(head_dim) + inner +
                                3.0 * static_cast<double>(intermediate_size));
  const double parameters =
      static_cast<double>(num_hidden_layers) * layer + 2 * width * static_cast<double>(vocab_size);
  FT_CHECK_CONFIG(parameters < 1e15, "model: about {:.1e} parameters; is a size mistyped?",
                  parameters);
  FT_CHECK_CONFIG(head_dim > 0 && head_dim % 2 == 0,
                  "model.head_dim = {}: rotary positions need an even width", head_dim);
  FT_CHECK_CONFIG(num_attention_heads % num_key_value_heads == 0,
                  "model: {} query heads do not divide by num_key_value_heads = {}",
                  num_attention_heads, num_key_value_heads);
  FT_CHECK_CONFIG(mamba_n_heads * mamba_d_head == mamba_d_ssm,
                  "model: mamba_n_heads {} x mamba_d_head {} must be mamba_d_ssm = {}",
                  mamba_n_heads, mamba_d_head, mamba_d_ssm);
  FT_CHECK_CONFIG(mamba_n_heads % mamba_n_groups == 0,
                  "model: mamba_n_heads = {} does not divide by mamba_n_groups = {}", mamba_n_heads,
                  mamba_n_groups);
  FT_CHECK_CONFIG(time_step_limit[0] <= time_step_limit[1],
                  "model.time_step_limit: the lower limit {} is above {}", time_step_limit[0],
                  time_step_limit[1]);
  FT_CHECK_CONFIG(!pad_token_id || (*pad_token_id >= 0 && *pad_token_id < vocab_size),
                  "model.pad_token_id = {} is outside the vocabulary of {}; null means none",
                  pad_token_id.value_or(0), vocab_size);
  FT_CHECK_CONFIG(!mamba_proj_bias || ssm_in_multiplier != 0,
                  "model: mamba_proj_bias needs an ssm_in_multiplier other than 0");
  FT_CHECK_CONFIG(!attention_bias || attention_in_multiplier != 0,
                  "model: attention_bias needs an attention_in_multiplier other than 0");
  expand_pattern(layer_pattern, num_hidden_layers);
}

std::string expand_pattern(const std::string& pattern, int64_t layers) {
  std::string out;
  for (size_t i = 0; i < pattern.size();) {
    const char symbol = pattern[i++];
    if (symbol == ' ') continue;
    FT_CHECK_CONFIG(symbol == 'P' || symbol == 'M' || symbol == 'A' || symbol == 'F',
                    "model.layer_pattern \"{}\": \"{}\" is no symbol; expected P, M, A or F, each "
                    "with an optional count "
                    "(\"P*36\", \"P4 M2\")",
                    pattern, symbol);
    if (i < pattern.size() && pattern[i] == '*') ++i;
    int64_t count = 0;
    bool counted = false;
    while (i < pattern.size() && std::isdigit(static_cast<unsigned char>(pattern[i]))) {
      count = std::min<int64_t>(count * 10 + (pattern[i++] - '0'), layers + 1);
      counted = true;
    }
    out.append(static_cast<size_t>(counted ? count : 1), symbol);
    if (static_cast<int64_t>(out.size()) > layers) break;  // refused below
  }
  if (out.empty()) out.assign(static_cast<size_t>(layers), 'P');
  FT_CHECK_CONFIG(static_cast<int64_t>(out.size()) == layers,
                  "model.layer_pattern \"{}\" names {} layers, num_hidden_layers is {}", pattern,
                  out.size(), layers);
  return out;
}

}  // namespace ft
