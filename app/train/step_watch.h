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
  // What was seen; by then source_sums() and the model's dt_peaks() are those of all ranks. Then the
  // device is synchronized.
  void read() { readback_.start(); }
  void finish(const StepBatches& batches, StepRecord& record);  // its sources, norms and dt

  Tensor source_sums() const { return sums_; }  // [2 * sources] f64

 private:
  void finish_sources(const StepBatches& batches, StepRecord& record);
  void finish_peaks(StepRecord& record);

  Engine& engine_;
  std::vector<std::string> names_;
  int64_t norms_every_;
  ClassNorms norms_;
  bool with_norms_ = false;
  Tensor sums_;           // cross-entropies by source, then labels
  Tensor source_of_row_;  // [sequences of the largest micro-batch] i32
  Readback readback_;
};

}  // namespace ft
