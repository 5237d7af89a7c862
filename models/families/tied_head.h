// Files whose config.json says that the head is the embedding table, and whose weights say otherwise
// (fine-tunes have that). As transformers does: equal tables are tied, different ones are not.
#pragma once

#include "models/decoder/config.h"

#include <string>
#include <vector>

namespace ft {

// Unties `config`, and says so in `notes` (may be null), where the weights of the Hugging Face
// folder hold a head that differs from the embedding. Leaves it as it is where there are no weights.
void untie_other_head(const std::string& folder, ModelConfig& config,
                      std::vector<std::string>* notes);

}  // namespace ft
