// A model's configuration in files: the model section of a configuration file, and Hugging Face's
// config.json, read by the family that they name (model_type).
#pragma once

#include "core/options.h"
#include "models/decoder/config.h"

#include <string>
#include <vector>

namespace ft {

// The model section of a configuration file. Relative paths start from the folder of the file that
// names them (of --set: from the working folder); init_from becomes absolute. The family is that of
// model_type, else of the config.json it starts from, else falcon_h1.
ModelConfig read_model(const OptionNode& section, std::vector<std::string>* notes);
std::string model_text(const ModelConfig& config, int indent);  // resolved YAML of that section
std::string model_help();

// A Hugging Face config.json, finished. Keys that mean nothing here are added to `notes` (may be
// null).
ModelConfig load_hf_config(const std::string& config_json_path, std::vector<std::string>* notes);

}  // namespace ft
