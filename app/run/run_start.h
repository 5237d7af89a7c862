// Before a run's first step: that nobody else writes into its folder, where it goes on from, and
// what is put aside for it.
#pragma once

#include "app/run/run_lock.h"
#include "models/decoder/config.h"
#include "parallel/comm/comm.h"
#include "parallel/store.h"

#include <optional>
#include <string>
#include <vector>

namespace ft {

// Collective. Where a run in `folder` goes on from; nothing is changed. `resume`:
//   auto: the newest checkpoint of the folder that opens and verifies
//   none: from the beginning
//   PATH: that checkpoint, or the newest one of that run
// Throws SharedError: of exit code 2 where there are checkpoints and none is usable, and where PATH
// is neither a checkpoint nor a run; of exit code 1 where storage does not answer.
struct Beginning {
  std::optional<std::string> checkpoint;
  std::vector<std::string> passed_over;  // newer ones that cannot be used, and why
};
Beginning find_beginning(Group& all, const std::string& folder, const std::string& resume);

class RunStart {
 public:
  // Collective; throws SharedError. Locks the folder and finds the beginning; moves nothing.
  RunStart(World& world, const std::string& folder, const std::string& resume);

  const std::optional<std::string>& checkpoint() const { return beginning_.checkpoint; }

  // Collective. For when the new start has shown that it is valid. Where the run does not go on from
  // a checkpoint of its folder, the folder of an earlier life is moved to FOLDER.old-N, whole, and
  // made anew. Where it goes on from an older one, checkpoints of later steps are moved to
  // FOLDER/checkpoints.old-N: they belong to another course of the run. Nothing is ever deleted.
  void make_room(World& world);

  // Rank 0: what was put aside, for log and events.
  struct Move {
    std::string from, to, why;
  };
  const std::vector<Move>& moves() const { return moves_; }
  const std::vector<std::string>& passed_over() const { return beginning_.passed_over; }

 private:
  void move_folder(const std::string& why);
  void move_later_checkpoints();

  std::string folder_, resume_;
  std::optional<RunLock> lock_;  // of rank 0
  Beginning beginning_;
  std::vector<Move> moves_;
};

// Throws ConfigError where the checkpoint's tensors are not this model's, naming the first setting
// that differs.
void check_same_model(const Checkpoint& checkpoint, const ModelConfig& model, const Store& store);

}  // namespace ft
