// Keeps bad steps away from the weights: a loss or gradient that is not finite, a spike of the
// loss. All ranks reach the verdict together, before the optimizer step.
#pragma once

#include "app/config.h"
#include "core/tensor.h"
#include "parallel/comm.h"
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
  explicit Guard(const GuardConfig& config) : config_(config) {}

  // Collective: whether the optimizer may use the step. False: it is left out, the log says why.
  // Throws SharedError where the run is to stop: as configured, or after too many steps in a row
  // that were left out. `inspect` runs the step again and returns this rank's first bad value, or
  // nothing; all ranks call it or none.
  bool accept(Group& all, const Outcome& outcome, const std::function<std::string()>& inspect);

  // The window of losses and the count of skips in a row, as checkpoints keep them.
  std::string state() const;
  void restore(const std::string& state);

 private:
  std::string spike(double loss) const;  // what is wrong with this loss; empty: nothing
  bool leave_out(Group& all, const Outcome& outcome, const std::string& why);
  void take(double loss);

  GuardConfig config_;
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
  Tensor place_;                // of what is poisoned now; no data: nothing is
  std::vector<char> original_;  // its bytes
};

}  // namespace ft
