// Hugging Face's config.json as a tree of options.
#pragma once

#include "core/options.h"

namespace ft {

// Reads a config.json as Python writes it: keys of the model section with their values, rope_theta
// resolved, nulls that mean "default" left out. Other keys are named in `notes` (may be null).
OptionNode read_hf_config(const std::string& path, std::vector<std::string>* notes);

// Bare Infinity, -Infinity and NaN outside strings become strings, so that strict parsers take the text.
std::string strict_json(const std::string& python_json);

}  // namespace ft
