// The planned schedule, for the report.
#include "app/report.h"
#include "app/trainer.h"

namespace ft {

std::vector<std::pair<double, double>> planned_lr(const Config& config, int points) {
  std::vector<std::pair<double, double>> planned;
  const LrSchedule schedule = lr_schedule(config);
  for (int i = 0; i <= points && schedule.total > 0; ++i) {
    const double tokens = schedule.total * i / points;
    planned.emplace_back(tokens, config.optimizer.lr * lr_factor(schedule, tokens));
  }
  return planned;
}

}  // namespace ft
