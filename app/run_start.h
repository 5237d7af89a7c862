// Before a run's first step: that nobody else writes into its folder, and where it goes on from.
#pragma once

#include "models/falcon_h1/config.h"
#include "parallel/comm.h"
#include "parallel/store.h"

#include <optional>
#include <string>

namespace ft {

class RunStart {
 public:
  // Collective; throws SharedError. `folder` is the run's, `resume` is auto, none or a path.
  //   auto: the newest checkpoint that opens and verifies; newer ones that do not are named. Where
  //         there are checkpoints and none is usable, that is an error.
  //   none: an earlier run of that name is moved to FOLDER.old-N, whole.
  // Checkpoints of later steps than the one resumed from are moved to FOLDER/checkpoints.old-N:
  // they belong to another course of the run. Nothing is ever deleted. The folder is locked by
  // `.NAME.lock` beside it until the object or the process ends.
  RunStart(World& world, const std::string& folder, const std::string& resume);
  ~RunStart();
  RunStart(const RunStart&) = delete;
  RunStart& operator=(const RunStart&) = delete;

  const std::optional<std::string>& checkpoint() const { return checkpoint_; }

 private:
  void lock(const std::string& folder);
  void choose(const std::string& folder, const std::string& resume,
              const std::optional<std::string>& newest);

  int lock_ = -1;
  std::optional<std::string> checkpoint_;
};

// Throws ConfigError where the checkpoint's tensors are not this model's, naming the first setting
// that differs. Else returns the settings that differ all the same, as words; empty: none.
std::string check_same_model(const Checkpoint& checkpoint, const ModelConfig& model,
                             const Store& store);

}  // namespace ft
