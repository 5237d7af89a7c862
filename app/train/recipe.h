// From configuration to what a run follows: its recipe, its optimizer groups, its "auto" settings.
#pragma once

#include "app/config/config.h"
#include "app/train/schedule.h"
#include "parallel/optimizer.h"

#include <string>
#include <vector>

namespace ft {

Recipe recipe_of(const Config& config);
// For a run that goes on after `tokens` tokens under other settings than it was saved with: what its
// next step does to the learning rate that the saved settings would not; empty: the same.
std::string lr_change(const Config& saved, const Config& now, int64_t tokens);
std::vector<PieceGroup> piece_groups(const OptimizerConfig& optimizer);

// A table of the run: tokens, step, learning rate, weight decay and batch at about `rows` places,
// the corners of the schedule among them.
std::string schedule_text(const Config& config, int rows = 20);
// Classes of parameters: count, learning rate multiplier, weight decay. After set_groups.
std::string classes_text(const Store& store);

}  // namespace ft
