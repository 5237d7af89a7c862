// A family of models: how Hugging Face's files speak of the decoder (models/decoder). It is a
// dictionary: which of the decoder's settings its config.json has and what a missing one means, what
// that file may not say, and what the decoder's tensors are called. It holds no mathematics.
#pragma once

#include "models/decoder/config.h"

#include <string>
#include <utility>
#include <vector>

namespace ft {

// A key of config.json that must be absent, null or one of these words.
struct FixedKey {
  std::string key;
  std::vector<std::string> words;
};

struct Family {
  std::string model_type;  // in config.json, and in configuration files
  // The decoder's settings that it has (models/decoder/settings.h); the others keep their values in
  // `defaults`.
  std::vector<std::string> settings;
  ModelConfig defaults;       // where a configuration file is silent
  ModelConfig json_defaults;  // where config.json is silent: what transformers takes then
  std::string symbol;         // of every layer, where layer_pattern is not one of `settings`
  std::vector<FixedKey> fixed;
  std::vector<std::string> without_effect;  // further keys of its config.json
  // Parts of the decoder's names of tensors, and what stands there in the family's.
  std::vector<std::pair<std::string, std::string>> names;

  bool has(const std::string& setting) const;
  std::string tensor_name(std::string decoder_name) const;
};

// All there are, the first being what is meant where nothing is said.
const std::vector<const Family*>& families();
const Family& family_of(const ModelConfig& model);
const Family* find_family(const std::string& model_type);  // null: not known
std::string family_names(const std::string& between);      // "falcon_h1 or llama"

}  // namespace ft
