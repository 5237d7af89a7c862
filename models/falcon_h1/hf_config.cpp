#include "models/falcon_h1/hf_config.h"

#include "core/file.h"
#include "models/falcon_h1/config.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>

namespace ft {
namespace {

using Json = nlohmann::ordered_json;
using Kind = OptionNode::Kind;

// Keys that say nothing about the mathematics.
const std::vector<std::string> kSilent = {
    "architectures", "model_type", "torch_dtype", "dtype", "transformers_version", "_name_or_path", "use_cache",
    "num_logits_to_keep", "attn_layer_indices", "sliding_window", "mamba_use_mlp", "mlp_expansion_factor",
    "expansion_factor", "rope_parameters", "rope_scaling", "auto_map", "return_dict", "output_attentions",
    "output_hidden_states", "chunk_size_feed_forward", "is_encoder_decoder", "problem_type", "id2label", "label2id"};

const std::vector<std::string> kOurs = {"config", "layer_pattern", "linear", "init", "init_from"};

bool among(const std::vector<std::string>& list, const std::string& key) {
  return std::find(list.begin(), list.end(), key) != list.end();
}

OptionNode node_of(const Json& json, const std::string& path, const std::string& key, int depth = 0) {
  FT_CHECK_CONFIG(depth < 64, "{}: {}: nested too deep", path, key);
  OptionNode node;
  node.where = path, node.file = path;
  if (json.is_object() && json.contains("__float__")) {
    const Json& value = json["__float__"];
    FT_CHECK_CONFIG(value.is_string(), "{}: {}: __float__ must be text", path, key);
    node.kind = Kind::Scalar, node.scalar = value.get<std::string>();
  } else if (json.is_array()) {
    node.kind = Kind::List;
    for (const Json& item : json) node.items.push_back(node_of(item, path, key, depth + 1));
  } else if (json.is_object()) {
    node.kind = Kind::Map;
    for (const auto& [name, value] : json.items()) node.set(name, node_of(value, path, name, depth + 1));
  } else if (json.is_string()) {
    node.kind = Kind::Scalar, node.scalar = json.get<std::string>();
    // What strict_json had to quote is a number again.
    node.quoted = node.scalar != "Infinity" && node.scalar != "-Infinity" && node.scalar != "NaN";
  } else if (!json.is_null()) {
    node.kind = Kind::Scalar, node.scalar = json.dump();
  }
  return node;
}

Json parse_json(const std::string& path) {
  std::string text;
  try {
    text = read_text(path);
  } catch (const Error& error) {
    throw ConfigError(error.what());
  }
  Json json;
  try {
    json = Json::parse(strict_json(text));
  } catch (const Json::exception& error) {
    throw ConfigError(fmt::format("{}: not valid JSON: {}", path, error.what()));
  }
  FT_CHECK_CONFIG(json.is_object(), "{}: expected a JSON object", path);
  return json;
}

// rope_theta stands at the top (transformers 4) or inside rope_parameters (5); no scaling is built.
void resolve_rope(const Json& json, const std::string& path, OptionNode& out, std::vector<std::string>* notes) {
  for (const char* name : {"rope_parameters", "rope_scaling"}) {
    if (!json.contains(name) || json[name].is_null()) continue;
    const Json& rope = json[name];
    FT_CHECK_CONFIG(rope.is_object(), "{}: {}: expected an object", path, name);
    for (const char* type : {"rope_type", "type"})
      FT_CHECK_CONFIG(!rope.contains(type) || rope[type] == "default",
                      "{}: {}.{} = {}: only \"default\" is known", path, name, type, rope[type].dump());
    if (rope.contains("rope_theta") && !rope["rope_theta"].is_null())
      out.set("rope_theta", node_of(rope["rope_theta"], path, "rope_theta"));
    FT_CHECK_CONFIG(!rope.contains("partial_rotary_factor") || rope["partial_rotary_factor"] == 1,
                    "{}: {}.partial_rotary_factor: only 1 is known", path, name);
  }
  if (!out.find("rope_theta") && notes)
    notes->push_back(fmt::format("{}: rope_theta is not given; 1e11, that of every released Falcon-H1, is used", path));
}

void refuse(const Json& json, const std::string& path) {
  const auto null = [&](const char* key) { return !json.contains(key) || json[key].is_null(); };
  FT_CHECK_CONFIG(null("model_type") || json["model_type"] == "falcon_h1",
                  "{}: model_type is {}; only \"falcon_h1\" is known", path, json["model_type"].dump());
  FT_CHECK_CONFIG(null("attn_layer_indices"), "{}: attn_layer_indices is not supported; use model.layer_pattern", path);
  FT_CHECK_CONFIG(null("sliding_window"), "{}: sliding_window is not supported", path);
}

}  // namespace

std::string strict_json(const std::string& text) {
  std::string out;
  bool string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (string && text[i] == '\\' && i + 1 < text.size()) {
      out += text[i++];
    } else if (text[i] == '"') {
      string = !string;
    } else if (!string) {
      const char* token = nullptr;
      for (const char* t : {"-Infinity", "Infinity", "NaN"})
        if (!token && text.compare(i, std::strlen(t), t) == 0) token = t;
      if (token) {
        out += fmt::format("\"{}\"", token);
        i += std::strlen(token) - 1;
        continue;
      }
    }
    out += text[i];
  }
  return out;
}

OptionNode read_hf_config(const std::string& path, std::vector<std::string>* notes) {
  const Json json = parse_json(path);
  refuse(json, path);
  ModelConfig sample;
  const std::vector<std::string> known = option_keys([&](OptionVisitor& v) { describe(v, sample); });
  // In these, null says something of its own.
  const std::vector<std::string> nullable = {"num_key_value_heads", "mamba_d_ssm",  "mamba_d_head", "head_dim",
                                             "pad_token_id",        "bos_token_id", "eos_token_id"};
  OptionNode out;
  out.kind = Kind::Map, out.where = path, out.file = path;
  std::vector<std::string> ignored;
  for (const auto& [key, value] : json.items()) {
    if (key == "quantization_config") {
      const bool bitnet = value.is_object() && value.value("quant_method", "") == "bitnet";
      FT_CHECK_CONFIG(bitnet || value.is_null(), "{}: quantization_config: only the method bitnet is known", path);
      OptionNode linear;
      linear.kind = Kind::Scalar, linear.scalar = "bitnet", linear.where = path;
      if (bitnet) out.set("linear", std::move(linear));
    } else if (!among(known, key) || among(kOurs, key)) {
      if (!among(kSilent, key)) ignored.push_back(key);
    } else if (!value.is_null() || among(nullable, key)) {
      OptionNode node = node_of(value, path, key);
      node.where = fmt::format("{}: key \"{}\"", path, key);
      out.set(key, std::move(node));
    }
  }
  resolve_rope(json, path, out, notes);
  if (notes && !ignored.empty())
    notes->push_back(fmt::format("{}: these keys mean nothing here and are ignored: {}", path, fmt::join(ignored, ", ")));
  return out;
}

ModelConfig load_hf_config(const std::string& config_json_path, std::vector<std::string>* notes) {
  const OptionNode tree = read_hf_config(config_json_path, notes);
  ModelConfig config;
  try {
    read_options(tree, [&](OptionVisitor& v) { describe(v, config); });
    config.finish();
  } catch (const ConfigError& error) {
    const std::string what = error.what();
    throw ConfigError(what.starts_with(config_json_path) ? what : config_json_path + ": " + what);
  }
  return config;
}

std::string hf_config_json(const ModelConfig& c) {
  const auto optional = [](const std::optional<int64_t>& id) { return id ? Json(*id) : Json(nullptr); };
  // Python's JSON has Infinity, which a strict writer does not; it is put in afterwards.
  const std::string mark = "@infinity@";
  const auto number = [&](double value) { return std::isinf(value) ? Json(mark) : Json(value); };
  Json eos = c.eos_token_id.empty() ? Json(nullptr) : c.eos_token_id.size() == 1 ? Json(c.eos_token_id[0])
                                                                                : Json(c.eos_token_id);
  Json j = {{"architectures", {"FalconH1ForCausalLM"}}, {"model_type", "falcon_h1"},
            {"vocab_size", c.vocab_size}, {"tie_word_embeddings", c.tie_word_embeddings},
            {"hidden_size", c.hidden_size}, {"intermediate_size", c.intermediate_size},
            {"num_hidden_layers", c.num_hidden_layers}, {"num_attention_heads", c.num_attention_heads},
            {"num_key_value_heads", c.num_key_value_heads}, {"head_dim", c.head_dim}, {"hidden_act", c.hidden_act},
            {"initializer_range", c.initializer_range}, {"rms_norm_eps", c.rms_norm_eps}, {"use_cache", true},
            {"num_logits_to_keep", 1}, {"pad_token_id", optional(c.pad_token_id)},
            {"bos_token_id", optional(c.bos_token_id)}, {"eos_token_id", eos},
            {"max_position_embeddings", c.max_position_embeddings}, {"attention_dropout", c.attention_dropout},
            {"attention_bias", c.attention_bias}, {"mlp_bias", c.mlp_bias}, {"projectors_bias", c.projectors_bias}};
  const Json mamba = {{"mamba_d_ssm", c.mamba_d_ssm}, {"mamba_n_heads", c.mamba_n_heads},
            {"mamba_d_head", c.mamba_d_head}, {"mamba_n_groups", c.mamba_n_groups}, {"mamba_d_state", c.mamba_d_state},
            {"mamba_d_conv", c.mamba_d_conv}, {"mamba_expand", c.mamba_expand},
            {"mamba_chunk_size", c.mamba_chunk_size}, {"mamba_conv_bias", c.mamba_conv_bias},
            {"mamba_proj_bias", c.mamba_proj_bias}, {"mamba_norm_before_gate", c.mamba_norm_before_gate},
            {"mamba_rms_norm", c.mamba_rms_norm}, {"time_step_min", c.time_step_min},
            {"time_step_max", c.time_step_max},
            {"time_step_limit", {number(c.time_step_limit[0]), number(c.time_step_limit[1])}}};
  // Both spellings: transformers 4 reads the first, 5 the second.
  const Json rest = {{"rope_theta", c.rope_theta},
            {"rope_parameters", {{"rope_type", "default"}, {"rope_theta", c.rope_theta}}},
            {"lm_head_multiplier", c.lm_head_multiplier}, {"embedding_multiplier", c.embedding_multiplier},
            {"key_multiplier", c.key_multiplier}, {"attention_in_multiplier", c.attention_in_multiplier},
            {"attention_out_multiplier", c.attention_out_multiplier}, {"ssm_in_multiplier", c.ssm_in_multiplier},
            {"ssm_out_multiplier", c.ssm_out_multiplier}, {"mlp_multipliers", c.mlp_multipliers},
            {"ssm_multipliers", c.ssm_multipliers}, {"torch_dtype", "float32"}};
  j.update(mamba);
  j.update(rest);
  std::string text = j.dump(2) + "\n";
  const std::string quoted = "\"" + mark + "\"";
  for (size_t at; (at = text.find(quoted)) != std::string::npos;) text.replace(at, quoted.size(), "Infinity");
  return text;
}

}  // namespace ft
