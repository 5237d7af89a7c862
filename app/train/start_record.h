// What a process says when its run begins or goes on: lines of the log, and the events of it.
#pragma once

#include "app/run/run_folder.h"
#include "app/run/run_start.h"
#include "app/train/trainer.h"
#include "app/train/yardstick.h"

namespace ft {

struct StartFigures {
  const Ranks& ranks;
  const Yardstick& yardstick;
  double flops_per_token = 0;
};

// Rank 0, once log and folder are open.
void record_start(RunFolder& folder, const Config& config, Trainer& trainer, const RunStart& start,
                  const StartFigures& figures);

}  // namespace ft
