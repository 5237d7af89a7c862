// From a configuration to a model.
#pragma once

#include "core/precision.h"
#include "models/decoder/model.h"

namespace ft {

// The decoder of a configuration, its tensors under the names of the family.
Model build_model(const ModelConfig& config, Precision precision);

}  // namespace ft
