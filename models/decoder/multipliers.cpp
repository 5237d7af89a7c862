#include "models/decoder/multipliers.h"

#include "core/options.h"

#include <cmath>
#include <vector>

namespace ft {

namespace {

struct Row {
  std::string name;
  std::vector<double> closed, configured;
};

std::string list(const std::vector<double>& values) {
  std::string text;
  for (const double v : values) text += (text.empty() ? "" : ", ") + yaml_number(v);
  return values.size() == 1 ? text : "[" + text + "]";
}

bool differ(const std::vector<double>& a, const std::vector<double>& b) {
  for (size_t i = 0; i < a.size(); ++i)
    if (std::fabs(a[i] - b[i]) > 1e-3 * std::fabs(a[i])) return true;
  return false;
}

}  // namespace

ModelConfig closed_form(ModelConfig m) {
  constexpr double kBase = 1280;  // width at which the factors of ssm_in and gate are 1 and 2^-0.5
  const auto real = [](int64_t n) { return static_cast<double>(n); };
  const double d = real(m.hidden_size), ds = real(m.mamba_d_ssm), i = real(m.intermediate_size);
  const double hd = real(m.head_dim), heads = real(m.num_attention_heads);
  m.embedding_multiplier = std::sqrt(32.0);
  m.lm_head_multiplier = 40 / d;
  m.attention_in_multiplier = 1;
  m.attention_out_multiplier = 491520 / (d * heads * hd);
  m.key_multiplier = 3276800 / (d * d * std::sqrt(hd));
  m.ssm_in_multiplier = kBase / d;
  m.ssm_out_multiplier = 256 * std::sqrt(2.0) / ds;
  m.ssm_multipliers = {std::pow(2, -1.5), 0.25, 256 / real(m.mamba_d_state) * std::pow(2, -2.5),
                       0.5, std::pow(2, -1.5)};
  m.mlp_multipliers = {kBase / d * std::sqrt(0.5), 1228800 / (d * i)};
  return m;
}

std::string multipliers_text(const ModelConfig& model) {
  const ModelConfig c = closed_form(model);
  const auto both = [&](const char* name, double ModelConfig::*field) {
    return Row{name, {c.*field}, {model.*field}};
  };
  const auto lists = [](const char* name, const auto& a, const auto& b) {
    return Row{name, {a.begin(), a.end()}, {b.begin(), b.end()}};
  };
  const std::vector<Row> rows = {
      both("embedding_multiplier", &ModelConfig::embedding_multiplier),
      both("lm_head_multiplier", &ModelConfig::lm_head_multiplier),
      both("key_multiplier", &ModelConfig::key_multiplier),
      both("attention_in_multiplier", &ModelConfig::attention_in_multiplier),
      both("attention_out_multiplier", &ModelConfig::attention_out_multiplier),
      both("ssm_in_multiplier", &ModelConfig::ssm_in_multiplier),
      both("ssm_out_multiplier", &ModelConfig::ssm_out_multiplier),
      lists("ssm_multipliers", c.ssm_multipliers, model.ssm_multipliers),
      lists("mlp_multipliers", c.mlp_multipliers, model.mlp_multipliers)};
  std::string text = fmt::format(
      "# Multipliers by the closed form (inferred from the published models) for\n"
      "# hidden_size {}, intermediate_size {}, {} heads of {}, mamba_d_ssm {}, mamba_d_state {}.\n"
      "model:\n",
      model.hidden_size, model.intermediate_size, model.num_attention_heads, model.head_dim,
      model.mamba_d_ssm, model.mamba_d_state);
  for (const Row& row : rows) {
    text += fmt::format("  {}: {}", row.name, list(row.closed));
    if (differ(row.closed, row.configured)) text += "  # configured: " + list(row.configured);
    text += "\n";
  }
  return text;
}

}  // namespace ft
