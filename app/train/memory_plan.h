// What a rank's memory is made of, before it runs: what a step needs is there from the first step
// on. On a CPU the sum is the peak of the process's resident memory (VmHWM, as /usr/bin/time shows
// it), on a GPU what the process takes of the GPU's (nvidia-smi).
#pragma once

#include "app/config/config.h"
#include "app/train/engine.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace ft {

using MemoryLines = std::vector<std::pair<std::string, int64_t>>;  // name, bytes

// What follows from the configuration, the number of ranks and the threads in use alone: the same
// in every process that asks. `engine` may be virtual.
MemoryLines memory_of_run(const Config& config, Engine& engine, int ranks);
// The process itself as measured when it started, and what a run is known to add to that.
std::pair<std::string, int64_t> memory_of_program(DeviceKind device, int ranks, int threads);
// Both, for people and for metrics.
MemoryLines memory_of_rank(const Config& config, Engine& engine, int ranks);

int64_t sum_of(const MemoryLines& lines);

}  // namespace ft
