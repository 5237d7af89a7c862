// What a run costs, in words: parameters by kind, FLOPs per token, memory by segment.
#pragma once

#include "app/config/config.h"
#include "app/train/engine.h"
#include "app/train/fit.h"

#include <string>

namespace ft {

// For a configuration, without allocating: the same model in virtual memory.
std::string plan_text(const Config& config, const Ranks& ranks);
// For the engine of a run that starts.
std::string start_text(const Config& config, Engine& engine, const Ranks& ranks);
// "16 sequences a step = 2 ranks x (2 x micro-batch 3 + 1 x 2)", as the loader deals them out.
std::string batch_text(int64_t batch, int64_t micro, int64_t ranks);

}  // namespace ft
