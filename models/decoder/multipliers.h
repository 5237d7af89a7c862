// Falcon-H1's forward multipliers for any shape. The published values of 0.5B, 3B, 7B and 34B obey
// one rule, scaled from the base width 1280; it is inferred from those values, not a statement of
// the authors. Good starting values for a new shape; never a reason to change a checkpoint's.
#pragma once

#include "models/decoder/config.h"

#include <string>

namespace ft {

// The model with its multipliers replaced by the closed form.
ModelConfig closed_form(ModelConfig model);

// The multipliers of `model` by the closed form, as YAML to paste; a comment names each value that
// the configuration sets to something else (by more than 1 in 1000: some are published rounded).
std::string multipliers_text(const ModelConfig& model);

}  // namespace ft
