#include "models/decoder/config.h"

#include "core/options.h"
#include "models/decoder/tied_head.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <limits>

namespace ft {

namespace fs = std::filesystem;

ModelConfig::ModelConfig() : time_step_limit{0, std::numeric_limits<double>::infinity()} {}

namespace {

constexpr double kTransformersRopeTheta = 1e4;
constexpr Range kSize{1, 1e9};  // products of two fit 63 bits

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

template <class V>
void describe_ours(V& v, ModelConfig& c) {
  v("layer_pattern", c.layer_pattern,
    "P both mixers, M Mamba-2, A attention, F MLP only; \"P4 M2\"; empty: all P");
  v("linear", c.linear, "kind of the linear layers", Choices{{"bf16", "bitnet"}});
  v("init", c.init, "starting values as in transformers or in mamba_ssm",
    Choices{{"hf", "mamba_ssm"}});
  v("init_from", c.init_from, "Hugging Face folder whose weights to start from");
}

// Keys of Hugging Face files that change nothing here, or that read_special reads.
constexpr const char* kOthers[] = {"architectures",        "model_type",
                                   "torch_dtype",          "dtype",
                                   "transformers_version", "use_cache",
                                   "num_logits_to_keep",   "rope_scaling",
                                   "rope_parameters",      "quantization_config",
                                   "eos_token_id",         "mamba_use_mlp",
                                   "attn_layer_indices",   "sliding_window",
                                   "mlp_expansion_factor", "expansion_factor",
                                   "_name_or_path",        "auto_map"};

// Fields that need more than a conversion, in either kind of file.
void read_special(const OptionNode& node, ModelConfig& c) {
  const bool scaled = node.at("rope_scaling").is_map() && !node.at("rope_scaling").keys().empty();
  for (const char* name : {"rope_parameters", "rope_scaling"}) {
    const OptionNode rope = node.at(name);
    if (!rope.present() || rope.is_null()) continue;
    if (scaled && std::string(name) == "rope_parameters") continue;  // as transformers has it
    if (!rope.is_map()) option_error(rope, std::string(name) + " must be a map");
    if (const OptionNode theta = rope.at("rope_theta"); theta.present() && !theta.is_null())
      c.rope_theta = theta.number("rope_theta");
    for (const char* key : {"rope_type", "type"})
      if (const OptionNode type = rope.at(key);
          type.present() && !type.is_null() && !type.same("default"))
        option_error(type, fmt::format("{}: scaled rotary positions are not supported; expected "
                                       "rope_type: default",
                                       name));
  }
  if (const OptionNode packed = node.at("quantization_config");
      packed.present() && !packed.is_null())
    option_error(packed,
                 "quantization_config: the weights are quantized (as BitNet's), and this build has "
                 "ordinary linears only; use an unquantized release of the model");
  if (const OptionNode eos = node.at("eos_token_id"); eos.present() && !eos.is_null()) {
    c.eos_token_id.clear();
    for (const OptionNode& one : eos.is_list() ? eos.items() : std::vector<OptionNode>{eos})
      c.eos_token_id.push_back(one.integer("eos_token_id"));
  }
  if (const OptionNode type = node.at("model_type");
      type.present() && !type.is_null() && !type.same("falcon_h1"))
    option_error(type, fmt::format("model_type is not {}; expected falcon_h1",
                                   type.same("llama") ? "in this build" : "supported"));
  for (const char* name : {"attn_layer_indices", "sliding_window"})
    if (const OptionNode one = node.at(name); one.present() && !one.is_null())
      option_error(one, fmt::format("{} is not supported; expected null", name));
}

// Where a config.json is silent, transformers' FalconH1Config speaks: its defaults are ours but for
// the rotary base, and a null that it lets stand counts as no.
void read_hf(const std::string& path, ModelConfig& c, std::vector<std::string>* notes) {
  const OptionNode node = OptionNode::load_json(path);
  c.rope_theta = kTransformersRopeTheta;
  OptionReader reader(node, "");
  describe(reader, c);
  read_special(node, c);
  for (const auto& [name, flag] : {std::pair{"mamba_conv_bias", &c.mamba_conv_bias},
                                   {"mamba_proj_bias", &c.mamba_proj_bias},
                                   {"mamba_norm_before_gate", &c.mamba_norm_before_gate},
                                   {"mamba_rms_norm", &c.mamba_rms_norm},
                                   {"projectors_bias", &c.projectors_bias}})
    if (node.at(name).is_null()) *flag = false;
  if (node.at("eos_token_id").is_null()) c.eos_token_id.clear();
  for (const char* key : kOthers) reader.ignore(key);
  std::string unknown;
  for (const std::string& key : node.keys())
    if (std::find(reader.known().begin(), reader.known().end(), key) == reader.known().end())
      unknown += (unknown.empty() ? "" : ", ") + key;
  if (!unknown.empty() && notes) notes->push_back(path + ": keys without effect here: " + unknown);
}

}  // namespace

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

ModelConfig read_model(const OptionNode& section, std::vector<std::string>* notes) {
  ModelConfig c;
  if (section.present() && !section.is_null() && !section.is_map())
    option_error(section, "model must be a map of settings");
  const auto path_of = [](const OptionNode& node, const std::string& option) {
    const std::string text = node.text(option);
    return text.empty() ? text : (fs::path(node.folder()) / text).lexically_normal().string();
  };
  const OptionNode config = section.at("config"), from = section.at("init_from");
  const std::string folder =
      from.present() && !from.is_null() ? path_of(from, "model.init_from") : "";
  const auto start_from = [&](const OptionNode& node, const std::string& option,
                              const std::string& path) {
    if (!fs::exists(path))
      option_error(node,
                   fmt::format("{}: {} does not exist (relative paths start from the folder of "
                               "the file that names them; of --set: from the working folder)",
                               option, fs::absolute(path).lexically_normal().string()));
    read_hf(path, c, notes);
  };
  if (config.present() && !config.is_null())
    start_from(config, "model.config", path_of(config, "model.config"));
  else if (!folder.empty()) start_from(from, "model.init_from", folder + "/config.json");
  if (!folder.empty() && !section.at("tie_word_embeddings").present())
    untie_other_head(folder, c, notes);
  OptionReader reader(section, "model");
  describe(reader, c);
  describe_ours(reader, c);
  for (const char* key :
       {"config", "rope_parameters", "rope_scaling", "eos_token_id", "model_type"})
    reader.ignore(key);
  reader.finish();
  read_special(section, c);
  c.init_from = folder.empty() ? "" : fs::absolute(folder).lexically_normal().string();
  c.finish();
  return c;
}

std::string model_text(ModelConfig c, int indent) {
  OptionWriter writer(indent);
  describe(writer, c);
  describe_ours(writer, c);
  return writer.text() + std::string(static_cast<size_t>(indent), ' ') +
         fmt::format("eos_token_id: [{}]\n", fmt::join(c.eos_token_id, ", "));
}

std::string model_help() {
  ModelConfig c;
  OptionHelp help("model");
  describe(help, c);
  describe_ours(help, c);
  return help.text() +
         "model.eos_token_id: whole number or list of whole numbers. Default: 2\n"
         "    tokens that end a text\n"
         "model.config: text. Default: none\n"
         "    a Hugging Face config.json that gives the defaults of this section\n";
}

ModelConfig load_hf_config(const std::string& path, std::vector<std::string>* notes) {
  ModelConfig c;
  read_hf(path, c, notes);
  c.finish();
  return c;
}

}  // namespace ft
