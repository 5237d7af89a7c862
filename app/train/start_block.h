// What a run has before it, in words: for the lines that it starts with, and for plans.
#pragma once

#include "app/config/config.h"

#include <cstdint>
#include <string>

namespace ft {

// Steps, tokens a step, epochs of each source to come, validation sets, saves. Sources are looked
// at (their .idx alone) where they are there.
std::string run_text(const Config& config, int64_t tokens_seen = 0);

// "this run will take 18h20m: ..." from the measured seconds of a step.
std::string time_text(int64_t steps_left, double seconds_a_step);

}  // namespace ft
