// What a reader of one setting cannot know: whether the settings fit each other.
#pragma once

#include "app/config/config.h"

namespace ft {

// Each throws ConfigError that names the settings and the mend.
void check_values(const Config& config);     // of any configuration: do they fit each other
void check_supported(const Config& config);  // settings that exist, but are not in this build
void check_sense(const Config& config);      // values that no training can want
// Whether `ranks` share out each batch of the run evenly.
void check_batches(const Config& config, int ranks);
// Settings that have no effect as the others are: to be told once.
std::vector<std::string> notes_of(const Config& config);

}  // namespace ft
