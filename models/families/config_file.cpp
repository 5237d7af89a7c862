#include "models/families/config_file.h"

#include "core/check.h"
#include "models/decoder/settings.h"
#include "models/families/family.h"
#include "models/families/tied_head.h"

#include <algorithm>
#include <filesystem>

namespace ft {

namespace fs = std::filesystem;

namespace {

// Shows a visitor the settings of one family.
template <class V>
struct SettingsOf {
  V& visitor;
  const Family& family;
  template <class... Rest>
  void operator()(const std::string& name, Rest&&... rest) {
    if (family.has(name)) visitor(name, std::forward<Rest>(rest)...);
  }
  void derived(const std::string& name, int64_t& value, const std::string& help) {
    if (family.has(name)) visitor.derived(name, value, help);
  }
};

// Those of config.json, and with `ours` those of a configuration file.
template <class V>
void describe(V& visitor, const Family& family, ModelConfig& config, bool ours) {
  SettingsOf<V> settings{visitor, family};
  describe(settings, config);
  if (ours) describe_ours(settings, config);
}

// A flag that config.json sets to null is off, as in transformers.
struct NullFlags {
  const OptionNode& node;
  template <class T, class... Rest>
  void operator()(const std::string& name, T& value, Rest&&...) {
    if constexpr (std::is_same_v<T, bool>)
      if (node.at(name).is_null()) value = false;
  }
  void derived(const std::string&, int64_t&, const std::string&) {}
};

// Keys of every config.json that change nothing here, or that read_special reads.
constexpr const char* kOthers[] = {
    "architectures",   "model_type",           "torch_dtype",  "dtype",
    "_name_or_path",   "transformers_version", "use_cache",    "rope_scaling",
    "rope_parameters", "quantization_config",  "eos_token_id", "auto_map"};

// What the family's files may say and the decoder has not.
void check_fixed(const OptionNode& node, const Family& family) {
  for (const auto& [key, words] : family.fixed) {
    const OptionNode one = node.at(key);
    if (!one.present() || one.is_null()) continue;
    const auto known = [&words = words](const OptionNode& word) {
      return word.is_scalar() && std::count(words.begin(), words.end(), word.scalar()) > 0;
    };
    const std::vector<OptionNode> items = one.is_list() ? one.items() : std::vector{one};
    if (words.empty() || !std::all_of(items.begin(), items.end(), known))
      option_error(one, fmt::format("{} is not supported; expected {}", key,
                                    words.empty() ? "null" : words[0]));
  }
}

// As transformers has it: a rope_scaling that says something stands in for rope_parameters.
void read_rope(const OptionNode& node, const Family& family, ModelConfig& c) {
  const bool scaled = node.at("rope_scaling").is_map() && !node.at("rope_scaling").keys().empty();
  for (const char* name : {"rope_parameters", "rope_scaling"}) {
    const OptionNode rope = node.at(name);
    if (!rope.present() || rope.is_null()) continue;
    if (scaled && std::string(name) == "rope_parameters") continue;
    if (!rope.is_map()) option_error(rope, std::string(name) + " must be a map");
    if (const OptionNode theta = rope.at("rope_theta"); theta.present() && !theta.is_null())
      c.rope_theta = theta.number("rope_theta");
    check_fixed(rope, family);  // partial_rotary_factor may stand here
    for (const char* key : {"rope_type", "type"})
      if (const OptionNode type = rope.at(key);
          type.present() && !type.is_null() && !type.same("default"))
        option_error(type, fmt::format("{}: scaled rotary positions are not supported; expected "
                                       "rope_type: default",
                                       name));
  }
}

// Fields that need more than a conversion, in either kind of file.
void read_special(const OptionNode& node, const Family& family, ModelConfig& c) {
  read_rope(node, family, c);
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
  check_fixed(node, family);
}

// The family that `node` names; `otherwise` where it names none.
const Family& family_in(const OptionNode& node, const Family& otherwise) {
  const OptionNode type = node.at("model_type");
  if (!type.present() || type.is_null()) return otherwise;
  const Family* family = find_family(type.text("model_type"));
  if (!family)
    option_error(type, fmt::format("model_type {} is not in this build; expected {}",
                                   type.text("model_type"), family_names(" or ")));
  return *family;
}

// What the family says of every one of its models.
void complete(const Family& family, ModelConfig& c) {
  c.model_type = family.model_type;
  if (!family.symbol.empty())
    c.layer_pattern = fmt::format("{}*{}", family.symbol, c.num_hidden_layers);
  c.finish();
}

// Not finished. Where a config.json is silent, transformers speaks.
ModelConfig read_json(const OptionNode& node, const std::string& path, const Family& family,
                      std::vector<std::string>* notes) {
  ModelConfig c = family.json_defaults;
  OptionReader reader(node, "");
  describe(reader, family, c, false);
  read_special(node, family, c);
  NullFlags flags{node};
  describe(flags, family, c, false);
  if (node.at("eos_token_id").is_null()) c.eos_token_id.clear();
  for (const char* key : kOthers) reader.ignore(key);
  for (const std::string& key : family.without_effect) reader.ignore(key);
  for (const FixedKey& fixed : family.fixed) reader.ignore(fixed.key);
  std::string unknown;
  for (const std::string& key : node.keys())
    if (std::find(reader.known().begin(), reader.known().end(), key) == reader.known().end())
      unknown += (unknown.empty() ? "" : ", ") + key;
  if (!unknown.empty() && notes) notes->push_back(path + ": keys without effect here: " + unknown);
  return c;
}

// The config.json that a model section starts from: the node that names it, and the path.
struct Base {
  OptionNode named_by;
  std::string option, path;
};

OptionNode load_base(const Base& base) {
  if (!fs::exists(base.path))
    option_error(base.named_by,
                 fmt::format("{}: {} does not exist (relative paths start from the folder of "
                             "the file that names them; of --set: from the working folder)",
                             base.option, fs::absolute(base.path).lexically_normal().string()));
  return OptionNode::load_json(base.path);
}

// Null or no node: no path.
std::string path_of(const OptionNode& node, const std::string& option) {
  if (!node.present() || node.is_null()) return "";
  const std::string text = node.text(option);
  return text.empty() ? text : (fs::path(node.folder()) / text).lexically_normal().string();
}

}  // namespace

ModelConfig read_model(const OptionNode& section, std::vector<std::string>* notes) {
  if (section.present() && !section.is_null() && !section.is_map())
    option_error(section, "model must be a map of settings");
  const OptionNode config = section.at("config"), from = section.at("init_from");
  const std::string folder = path_of(from, "model.init_from");
  Base base{config, "model.config", path_of(config, "model.config")};
  if (!config.present() || config.is_null())
    base = {from, "model.init_from", folder.empty() ? "" : folder + "/config.json"};

  const bool starts = (config.present() && !config.is_null()) || !folder.empty();
  const OptionNode json = starts ? load_base(base) : OptionNode();
  const Family& based = family_in(json, *families()[0]);
  const Family& family = family_in(section, based);
  if (starts && json.at("model_type").present() && &family != &based)
    option_error(section.at("model_type"),
                 fmt::format("model.model_type: {} is a {} model; leave model_type out", base.path,
                             based.model_type));
  ModelConfig c = starts ? read_json(json, base.path, family, notes) : family.defaults;
  c.model_type = family.model_type;
  if (!folder.empty() && !section.at("tie_word_embeddings").present())
    untie_other_head(folder, c, notes);
  OptionReader reader(section, "model");
  describe(reader, family, c, true);
  for (const char* key :
       {"config", "rope_parameters", "rope_scaling", "eos_token_id", "model_type"})
    reader.ignore(key);
  reader.finish();
  read_special(section, family, c);
  c.init_from = folder.empty() ? "" : fs::absolute(folder).lexically_normal().string();
  complete(family, c);
  return c;
}

std::string model_text(const ModelConfig& config, int indent) {
  ModelConfig c = config;
  OptionWriter writer(indent);
  std::string help;
  writer("model_type", c.model_type, help);
  describe(writer, family_of(c), c, true);
  return writer.text() + std::string(static_cast<size_t>(indent), ' ') +
         fmt::format("eos_token_id: [{}]\n", fmt::join(c.eos_token_id, ", "));
}

std::string model_help() {
  const Family& first = *families()[0];
  ModelConfig c = first.defaults;
  OptionHelp help("model");
  describe(help, first, c, true);
  std::string text = fmt::format(
      "model.model_type: {}. Default: that of config or init_from, else {}\n"
      "    family of models, whose keys and defaults the settings below have; here {}'s\n",
      family_names(" | "), first.model_type, first.model_type);
  text += help.text() +
          "model.eos_token_id: whole number or list of whole numbers. Default: 2\n"
          "    tokens that end a text\n"
          "model.config: text. Default: none\n"
          "    a Hugging Face config.json that gives the defaults of this section\n";
  for (const Family* family : families())
    if (family != &first)
      text += "\nThe model section of a " + family->model_type +
              " model has these settings and defaults:\n" + model_text(family->defaults, 4);
  return text;
}

ModelConfig load_hf_config(const std::string& path, std::vector<std::string>* notes) {
  const OptionNode node = OptionNode::load_json(path);
  const Family& family = family_in(node, *families()[0]);
  ModelConfig c = read_json(node, path, family, notes);
  complete(family, c);
  return c;
}

}  // namespace ft
