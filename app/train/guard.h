// Keeps bad steps away from the weights: a loss or gradient that is not finite, a spike of the
// loss. The device decides before the optimizer's step (core/ops/optimizer.h); here is what it asks
// for, and what the log and the run make of it afterwards. All ranks see the same numbers.
#pragma once

#include "app/config/config.h"
#include "app/run/run_folder.h"
#include "core/tensor.h"
#include "parallel/comm/comm.h"
#include "parallel/store.h"

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace ft {

// A step before its update; loss and norm are sums over all ranks.
struct Outcome {
  int64_t step = 0;     // 1-based
  int64_t updates = 0;  // taken so far
  double loss = 0, grad_norm = 0;
};

class Guard {
 public:
  // tell: hears of each spike, value that is not finite and step left out, as events of the run
  // (app/run/run_folder.h); on all ranks alike.
  using Tell = std::function<void(const std::string& event, int64_t step, const RunFacts& facts)>;
  explicit Guard(const GuardConfig& config, Tell tell = {})
      : config_(config), tell_(tell ? std::move(tell) : [](auto&&...) {}) {}

  // Above it the loss of the next step is a spike that is to change no weight; infinite where it
  // may. The device asks the same of the step (ops::StepVerdict), on all ranks with equal numbers.
  double loss_bound() const;

  // Collective: what the step's verdict, which the device has reached already, is called: whether
  // weights changed. False: the step is left out, the log says why. Throws SharedError where the run
  // is to stop: as configured, or after too many steps in a row that were left out. `inspect` runs
  // the step again and returns this rank's first bad value, or nothing; all ranks call it or none.
  bool accept(Group& all, const Outcome& outcome, const std::function<std::string()>& inspect);
  // In place of accept() for a step without a label that counts, on all ranks: it says nothing of
  // the model, so it is left out, and no loss enters the window. Throws after too many in a row.
  void leave_out_unlabelled(Group& all, const Outcome& outcome);

  // The window of losses and the count of skips in a row, as checkpoints keep them.
  std::string state() const;
  void restore(const std::string& state);

 private:
  struct Window {                               // of the last losses
    double mean = 0, deviation = 0, bound = 0;  // infinite: they are too few to tell
  };
  Window window() const;
  bool leave_out(Group& all, const Outcome& outcome, const std::string& event,
                 const std::string& why);
  void take(double loss);

  GuardConfig config_;
  Tell tell_;
  std::deque<double> losses_;  // of the last steps that changed weights
  int64_t skipped_ = 0;        // in a row
};

// A fault made on purpose. The environment variable FT_TEST_POISON="STEP:RANK:PARAMETER[:VALUE]",
// read once, puts VALUE (default nan) into the first element of that parameter on that rank, for
// the length of that step.
class Poison {
 public:
  static Poison from_environment();
  void apply(int64_t step, int rank, Store& store);
  void heal();  // the value that was there before

 private:
  int64_t step_ = -1;
  int rank_ = 0;
  std::string parameter_;
  double value_ = 0;
  Transfer* transfer_ = nullptr;  // to what is poisoned now; null: nothing is
  Tensor place_;
  float original_ = 0;
};

}  // namespace ft
