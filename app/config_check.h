// What a reader of one setting cannot know: whether the settings fit each other.
#pragma once

#include "app/config.h"

namespace ft {

// Both throw ConfigError that names the settings and the mend.
void check_values(const Config& config);          // of any configuration
void check_layout(const ParallelConfig& layout);  // refuses what this build does not have

}  // namespace ft
