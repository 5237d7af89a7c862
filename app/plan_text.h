// What a run costs, in words: parameters by kind, FLOPs per token, memory by segment.
#pragma once

#include "app/config.h"
#include "app/engine.h"
#include "app/fit.h"

#include <string>

namespace ft {

// For a configuration, without allocating: the same model in virtual memory.
std::string plan_text(const Config& config, const Ranks& ranks);
// For the engine of a run that starts.
std::string start_text(const Config& config, Engine& engine, int ranks);

}  // namespace ft
