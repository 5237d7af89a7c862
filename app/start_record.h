// What a process says when its run begins or goes on: lines of the log, and the events of it.
#pragma once

#include "app/run_folder.h"
#include "app/run_start.h"
#include "app/trainer.h"

namespace ft {

struct StartFigures {
  double sgemm = kUnknown;  // FLOP/s of all ranks, the yardstick of MFU
  double flops_per_token = 0;
  int ranks = 1, threads = 1;  // threads: of a rank
};

// Rank 0, once log and folder are open.
void record_start(RunFolder& folder, const Config& config, Trainer& trainer, const RunStart& start,
                  const StartFigures& figures);

}  // namespace ft
