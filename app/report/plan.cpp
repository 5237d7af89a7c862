// The planned schedule, for the report.
#include "app/report/page.h"
#include "app/train/recipe.h"

namespace ft {

std::vector<std::pair<double, double>> planned_lr(const Config& config, int points) {
  std::vector<std::pair<double, double>> planned;
  const Recipe recipe = recipe_of(config);
  for (int i = 0; i <= points && recipe.total > 0; ++i) {
    const int64_t tokens = recipe.total / points * i + recipe.total % points * i / points;
    planned.emplace_back(static_cast<double>(tokens),
                         config.optimizer.lr * recipe_step(recipe, tokens).lr_factor);
  }
  return planned;
}

}  // namespace ft
