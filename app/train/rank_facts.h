// What all ranks must hold alike: parallel/agree.h compares it.
#pragma once

#include "app/config/config.h"
#include "app/train/engine.h"
#include "parallel/agree.h"

#include <optional>
#include <string>
#include <vector>

namespace ft {

// Of any command. usage: what is wrong with the command line; empty: nothing.
std::vector<Fact> process_facts(const std::string& command, const std::string& usage);

Fact config_fact(const Config& config);
Fact weights_fact(Engine& engine);                                 // by tensor, as they are now
Fact text_fact(const std::string& name, const std::string& text);  // of what was read

// Of a run that is about to start: configuration, weights, the place in the data (text of the
// loader) and the checkpoint it goes on from.
std::vector<Fact> start_facts(const Config& config, Engine& engine, const std::string& data,
                              const std::optional<std::string>& checkpoint);

}  // namespace ft
