#include "app/train/recipe.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <tuple>

namespace ft {

namespace {

std::vector<SchedulePoint> points_of(const std::vector<std::array<double, 2>>& pairs) {
  std::vector<SchedulePoint> points;
  for (const auto& [tokens, factor] : pairs) points.push_back({tokens, factor});
  return points;
}

std::string count_text(double n) {
  for (const auto& [scale, suffix] : {std::pair{1e9, "B"}, {1e6, "M"}, {1e3, "k"}})
    if (n >= scale) return fmt::format("{:.4g}{}", n / scale, suffix);
  return fmt::format("{:.0f}", n);
}

// Steps at which a row of the table is wanted, as tokens seen before them.
std::vector<double> wanted(const Config& c, int rows) {
  const auto& s = c.schedule;
  const auto total = static_cast<double>(c.train.tokens);
  std::vector<double> at = {0,
                            static_cast<double>(s.warmup),
                            total - static_cast<double>(s.decay),
                            static_cast<double>(s.power_start),
                            static_cast<double>(s.weight_decay.start),
                            total};
  for (const auto& p : s.points) at.push_back(p[0]);
  for (const auto& p : s.weight_decay.points) at.push_back(p[0]);
  for (const auto& p : s.batch_ramp) at.push_back(static_cast<double>(p[0]));
  for (int i = 1; i < rows; ++i) at.push_back(total * i / rows);
  std::sort(at.begin(), at.end());
  return at;
}

}  // namespace

Recipe recipe_of(const Config& c) {
  const auto& s = c.schedule;
  Recipe r;
  r.lr = {.type = s.type,
          .warmup = static_cast<double>(s.warmup),
          .decay = static_cast<double>(s.decay),
          .total = static_cast<double>(c.train.tokens),
          .final_ratio = s.final_ratio,
          .decay_shape = s.decay_shape,
          .power_start = static_cast<double>(s.power_start),
          .exponent = s.power_exponent,
          .points = points_of(s.points)};
  r.weight_decay = {.type = s.weight_decay.type,
                    .start = static_cast<double>(s.weight_decay.start),
                    .final_ratio = s.weight_decay.final_ratio,
                    .points = points_of(s.weight_decay.points)};
  for (const auto& [tokens, sequences] : s.batch_ramp) r.batch.push_back({tokens, sequences});
  if (r.batch.empty()) r.batch.push_back({0, c.train.global_batch});
  r.sqrt_lr = s.batch_ramp_lr == "sqrt";
  r.sequence_length = c.data.sequence_length;
  r.total = c.train.tokens;
  return r;
}

std::string lr_change(const Config& saved, const Config& now, int64_t tokens) {
  const auto next = [&](const Config& c) {
    return c.optimizer.lr * recipe_step(recipe_of(c), tokens).lr_factor;
  };
  const double before = next(saved), after = next(now);
  if (std::abs(after - before) <= 1e-6 * std::max(before, after)) return "";
  std::string text = fmt::format(
      "the learning rate goes on with {:.4g}, where the settings of the checkpoint give {:.4g}",
      after, before);
  const bool finished = tokens >= saved.train.tokens && now.train.tokens > saved.train.tokens;
  if (finished && after > 1.5 * before)
    text += fmt::format(
        ": train.tokens was {}, where its decay had ended, and is {} now. To train on without that "
        "leap, start from an earlier checkpoint, or set a schedule that begins at the low rate",
        saved.train.tokens, now.train.tokens);
  return text;
}

std::vector<PieceGroup> piece_groups(const OptimizerConfig& o) {
  std::vector<PieceGroup> groups;
  for (const OptimizerGroup& g : o.groups) {
    PieceGroup group{g.match, g.parameters, g.lr_multiplier, g.weight_decay};
    if (g.weight_decay_multiplier) group.weight_decay = *g.weight_decay_multiplier * o.weight_decay;
    groups.push_back(group);
  }
  return groups;
}

std::string schedule_text(const Config& c, int rows) {
  const Recipe recipe = recipe_of(c);
  std::string text =
      fmt::format("schedule: {} steps\n{:>12}{:>12}{:>14}{:>14}{:>10}", steps_left(recipe, 0),
                  "tokens", "step", "lr", "weight decay", "batch");
  const std::vector<double> at = wanted(c, rows);
  std::set<int64_t> shown;
  for (const double place : at) {
    // The step whose end is the first at or after `place`: those before it are counted, not made.
    Recipe until = recipe;
    until.total = static_cast<int64_t>(std::clamp(place, 1.0, static_cast<double>(recipe.total)));
    const int64_t step = steps_left(until, 0);
    if (!shown.insert(step).second) continue;
    const int64_t before = tokens_before(recipe, step);
    const RecipeStep s = recipe_step(recipe, before);
    text += fmt::format("\n{:>12}{:>12}{:>14.4g}{:>14.4g}{:>10}",
                        count_text(static_cast<double>(s.tokens_after)), step,
                        c.optimizer.lr * s.lr_factor,
                        c.optimizer.weight_decay * s.weight_decay_factor, s.batch);
  }
  return text;
}

std::string classes_text(const Store& store) {
  // Pieces of one class may differ where a group chose by name: a row for each setting.
  using Key = std::tuple<size_t, float, float>;
  std::map<Key, int64_t> count;
  const auto& classes = parameter_classes();
  store.for_pieces([&](Param&, Piece& piece) {
    const auto index = static_cast<size_t>(
        std::find(classes.begin(), classes.end(), parameter_class(piece)) - classes.begin());
    count[{index, piece.lr_multiplier, piece.weight_decay.value_or(0)}] += piece.size();
  });
  std::string text = fmt::format("{:<14}{:>16}{:>16}{:>14}", "class", "parameters", "lr multiplier",
                                 "weight decay");
  for (const auto& [key, n] : count)
    text += fmt::format("\n{:<14}{:>16}{:>16.4g}{:>14.4g}", classes[std::get<0>(key)], n,
                        std::get<1>(key), std::get<2>(key));
  return text;
}

}  // namespace ft
