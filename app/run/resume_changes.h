// What differs between the process that wrote a checkpoint and the one that goes on from it:
// settings, ranks, program, libraries, processor.
#pragma once

#include "app/config/config.h"
#include "app/run/run_folder.h"
#include "core/device.h"
#include "data/source_match.h"
#include "parallel/checkpoint/checkpoint.h"

#include <string>
#include <vector>

namespace ft {

// What a process is beside its settings, as checkpoints keep it: "machine", "build", "ranks",
// "threads", "libraries.NAME".
State process_facts(const Device& device, int ranks, int threads);

// Settings by path ("optimizer.lr") and facts, old and new; sources by their names
// ("data.train[web].weight"), under the present one where the files are the same. What an old
// checkpoint does not say is left out.
std::vector<Change> changes_since(const State& saved, const std::string& where,
                                  const Config& config, const State& facts,
                                  const SourceChanges& sources);

// The changes that keep the run from going on bit for bit as it would have; empty: none does.
std::vector<std::string> not_bitwise(const std::vector<Change>& changes, const Config& config);

}  // namespace ft
