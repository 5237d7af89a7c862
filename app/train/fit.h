// Does a run fit its memory, and what would make it fit: asked of the run in virtual memory.
#pragma once

#include "app/machine/ranks.h"
#include "core/device.h"

#include <cstdint>
#include <memory>
#include <string>

namespace ft {

// Bytes that one process alone may take here (core/limits.h).
int64_t machine_memory();

// What a run of such ranks is planned with: a CPU that counts. Leaves the process with the threads of
// `ranks`, or where those are not known with run.threads.
std::unique_ptr<Device> planning_device(const Config& config, const Ranks& ranks);

// Bytes of a rank, without the process itself, whose size differs from process to process: what
// follows decides by this alone. On a planning_device.
int64_t planned_memory(const Config& resolved, const Ranks& ranks = {});

// "auto" settings decided from the configuration, `memory` (bytes a rank may take) and `ranks`, all
// equal on all ranks. recompute: auto becomes the first of none, selective, full whose plan stays
// below nine tenths of it; the rest is for the process itself. Where none does, full.
Config resolve(Config config, int64_t memory = machine_memory(), const Ranks& ranks = {});

// Empty where the plan fits; else by how much it does not and which settings would help.
std::string fit_problem(const Config& resolved, int64_t memory, const Ranks& ranks = {});

}  // namespace ft
