// The validation sets of a run: opened before its first step, read after steps where they are due.
#pragma once

#include "app/run/progress.h"
#include "app/run/run_folder.h"
#include "app/train/trainer.h"

#include <cstdint>
#include <string>
#include <vector>

namespace ft {

class Validator {
 public:
  // Collective; throws SharedError for a set that cannot be read or has nothing in it.
  Validator(World& world, const Config& config, Trainer& trainer);

  bool is_due(int64_t step, int64_t steps) const;
  // Collective. One line a set; `last`: also what a model of frequencies alone would reach. A fault
  // found in a set before the first step throws; later it is logged, and the run goes on without
  // that set. False where the ranks were asked to stop before all were read. folder: of rank 0, else
  // null.
  bool run(int64_t step, bool last, RunFolder* folder, Progress& progress);
  // The same for a run that goes on from that step: those sets that the life before was ended too
  // early to read.
  bool catch_up(int64_t step, bool last, RunFolder* folder, Progress& progress);

 private:
  struct Set {
    DataSource source;
    double bytes_a_token = 0;  // of text; 0: not known
  };
  bool run(const std::vector<Set>& sets, int64_t step, bool last, RunFolder* folder,
           Progress& progress);
  bool read(const Set& set, int64_t step, bool last, RunFolder* folder);

  World& world_;
  const Config& config_;
  Trainer& trainer_;
  std::vector<Set> sets_;
};

// "validation web after step 200: loss 3.1234, perplexity 22.72, 1.234 bits per byte, 8192 tokens"
std::string validation_line(const ValidationRecord& record);

}  // namespace ft
