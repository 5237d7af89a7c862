#include "app/train/start_block.h"

#include "app/run/metrics.h"
#include "app/train/recipe.h"
#include "data/tokens.h"

#include <fmt/format.h>

#include <filesystem>

namespace ft {

namespace {

constexpr size_t kShown = 8;  // sources; a blend may have thousands

std::string epochs_text(const Config& config, double tokens) {
  double weights = 0;
  for (const DataSource& source : config.data.train) weights += source.weight;
  std::string text;
  for (size_t i = 0; i < std::min(kShown, config.data.train.size()); ++i) {
    const DataSource& source = config.data.train[i];
    if (!std::filesystem::exists(source.path + ".idx")) continue;
    const auto size = static_cast<double>(TokenSet(source.path).tokens());
    text += fmt::format("{}{} {:.3g}", text.empty() ? "" : ", ", source.name,
                        tokens * source.weight / weights / std::max(size, 1.0));
  }
  if (config.data.train.size() > kShown)
    text +=
        fmt::format("{}{} more", text.empty() ? "" : ", and ", config.data.train.size() - kShown);
  return text.empty() ? "not known: no set of data.train is here" : text;
}

std::string batch_text(const Recipe& recipe) {
  std::string text;
  for (const BatchStage& stage : recipe.batch)
    text += fmt::format("{}{}", text.empty() ? "" : ", then ",
                        grouped_count(stage.sequences * recipe.sequence_length));
  return text + " tokens each";
}

std::string validation_text(const Config& config) {
  if (config.data.validation.empty() || config.validate.every == 0) return "none";
  std::string names;
  for (size_t i = 0; i < std::min(kShown, config.data.validation.size()); ++i)
    names += (names.empty() ? "" : ", ") + config.data.validation[i].name;
  if (config.data.validation.size() > kShown)
    names += fmt::format(", and {} more", config.data.validation.size() - kShown);
  return fmt::format("{}, every {} steps, {} of each", names, grouped_count(config.validate.every),
                     config.validate.sequences > 0
                         ? grouped_count(config.validate.sequences) + " sequences"
                         : "all sequences");
}

}  // namespace

std::string run_text(const Config& config, int64_t tokens_seen) {
  const Recipe recipe = recipe_of(config);
  const int64_t steps = steps_left(recipe, tokens_seen);
  const int64_t tokens = std::max<int64_t>(config.train.tokens - tokens_seen, 0);
  std::string text = fmt::format("run: {} steps to come, {}, {} in all", grouped_count(steps),
                                 batch_text(recipe), grouped_count(tokens));
  text += "\n  epochs to come: " + epochs_text(config, static_cast<double>(tokens));
  text += "\n  validation: " + validation_text(config);
  text += config.checkpoint.every > 0
              ? fmt::format("\n  checkpoints: every {} steps and at the end",
                            grouped_count(config.checkpoint.every))
              : "\n  checkpoints: at the end and on a signal alone";
  return text;
}

std::string time_text(int64_t steps_left, double seconds_a_step) {
  return fmt::format(
      "this run will take {} more: {} steps of {:.3g} s, without validation and saves",
      duration(static_cast<double>(steps_left) * seconds_a_step), grouped_count(steps_left),
      seconds_a_step);
}

}  // namespace ft
