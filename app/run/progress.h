// What a person sees of a run that goes on: one line a step, and on a terminal a status line with a
// bar below them.
#pragma once

#include "app/run/metrics.h"
#include "core/terminal.h"

#include <chrono>
#include <string>

namespace ft {

// "step  1200/19073  6.3%  loss 3.1824  grad 0.41  lr 1.28e-03  142.1k tok/s  MFU 48.6%  step 3.69s
//  eta 18h20m  mem 61.2/139.8 GiB"; mem is the largest resident memory of a rank, of its machine's.
std::string step_line(const StepRecord& record);
// The status line, at most terminal.columns - 1 wide: what does not fit is left out.
std::string status_line(const StepRecord& record, const Terminal& terminal);

// Averages of a process's steps. The first ones, which fill caches and memory, are left out.
class Pace {
 public:
  static constexpr int64_t kWarmUp = 2;  // steps
  void add(const StepRecord& record);
  double recent_seconds() const { return recent_; }  // of a step, for the eta
  // Whether the last step was the one after which the speed is known.
  bool is_first_measure() const { return counted_ == kWarmUp + 1; }
  // "average of 498 steps: 12.3k tok/s, MFU 41.2%, step 1.32s"; empty where there was none.
  std::string summary() const;

 private:
  int64_t steps_ = 0, counted_ = 0;
  double recent_ = 0, seconds_ = 0, tokens_ = 0, mfu_ = 0;
};

// The status line of a run; nothing where no terminal is. Gone when this is.
class Progress {
 public:
  ~Progress();
  void show(const StepRecord& record);
  void clear();
  // In its scope the status line says what else goes on: "saving a checkpoint".
  class Busy {
   public:
    Busy(Progress& progress, const std::string& what);
    ~Busy();
    Busy(const Busy&) = delete;
    Busy& operator=(const Busy&) = delete;

   private:
    Progress& progress_;
  };

 private:
  std::chrono::steady_clock::time_point shown_{};
  std::string line_;
};

}  // namespace ft
