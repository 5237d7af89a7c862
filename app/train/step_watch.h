// What the log wants to know of a step beyond its loss and norm: loss by source, norms by class of
// parameters, the largest dt. It reads what the step computes and writes nothing that training
// reads, so a run with it and one without it are the same bit for bit.
#pragma once

#include "app/run/metrics.h"
#include "app/train/engine.h"
#include "app/train/readback.h"
#include "data/loader.h"
#include "parallel/class_norms.h"

#include <string>
#include <vector>

namespace ft {

class StepWatch {
 public:
  // sources: Loader::source_names(). norms_every: steps between norms by class; 0: never.
  StepWatch(Engine& engine, std::vector<std::string> sources, int64_t norms_every);

  // In this order in every step, on all ranks alike:
  void begin(Ctx& c, int64_t step);              // step: its number, from 1
  void micro_batch(Ctx& c, const Batch& batch);  // after its backward
  void gradients(Ctx& c);                        // reduced over ranks, before the optimizer
  void read() { readback_.start(); }             // what was seen; then the device is synchronized
  // Fills the record's sources, norms, dt and peak memory. Collective over the data-parallel ranks.
  void finish(Group& data, const StepBatches& batches, StepRecord& record);

 private:
  void finish_sources(Group& data, const StepBatches& batches, StepRecord& record);
  void finish_peaks(Group& data, StepRecord& record);

  Engine& engine_;
  std::vector<std::string> names_;
  int64_t norms_every_;
  ClassNorms norms_;
  bool with_norms_ = false;
  Tensor sums_;           // [2 * sources] f64: cross-entropies, then labels
  Tensor source_of_row_;  // [sequences of the largest micro-batch] i32
  Readback readback_;
};

}  // namespace ft
