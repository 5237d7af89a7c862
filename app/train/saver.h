// Saving a run's checkpoints: in mid-run a save that fails is tried again some steps later, the last
// one for checkpoint.retry seconds.
#pragma once

#include "app/run/progress.h"
#include "app/run/run_folder.h"
#include "app/train/trainer.h"

#include <cstdint>
#include <set>
#include <string>

namespace ft {

class Saver {
 public:
  // folder: of rank 0, else null.
  Saver(World& world, const Config& config, Trainer& trainer, const std::string& directory,
        RunFolder* folder)
      : world_(world),
        config_(config.checkpoint),
        trainer_(trainer),
        directory_(directory),
        folder_(folder) {}

  bool is_due(int64_t step) const;
  // Collective. A full disk must not end the run: the error is logged, older checkpoints stay, and
  // saving is tried again before the next one is due.
  void save(Progress& progress);
  // Collective: the save that the run ends with; nothing where this step is saved. Where it fails,
  // the weights are nowhere else: it is tried again until there is room, until checkpoint.retry has
  // passed, or, once more, when another signal asks to end; then it throws SharedError.
  void save_last(Progress& progress);
  std::string path() const;  // of the step's checkpoint

 private:
  void write();
  void retain();
  void tell_failure(const std::string& why, const std::string& next);

  World& world_;
  CheckpointConfig config_;
  Trainer& trainer_;
  std::string directory_;
  RunFolder* folder_;
  std::set<std::string> said_;  // about checkpoints that are nobody's to remove
  int64_t saved_ = -1;          // step
  int64_t retry_at_ = 0;  // step at which a checkpoint that failed is tried again; 0: none did
};

}  // namespace ft
