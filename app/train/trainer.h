// One rank's training run: engine, data, schedule, and what a checkpoint holds of them.
#pragma once

#include "app/config/config.h"
#include "app/run/metrics.h"
#include "app/train/engine.h"
#include "app/train/guard.h"
#include "app/train/readback.h"
#include "app/train/recipe.h"
#include "app/train/step_watch.h"
#include "data/loader.h"
#include "parallel/mesh.h"
#include "parallel/pipeline.h"

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace ft {

Engine::Options engine_options(const Config& config, bool is_virtual);

class Trainer {
 public:
  // threads: of a rank; tell: hears what the guard does. World and device outlive it.
  Trainer(World& world, Device& device, const Config& config, int threads = 0,
          Guard::Tell tell = {});

  // Weights: from a checkpoint (everything), a Hugging Face folder, or the seed.
  void start(const std::optional<std::string>& checkpoint);
  using Clock = std::chrono::steady_clock;
  using StopAt = std::chrono::time_point<Clock, std::chrono::duration<double>>;
  void set_stop_at(StopAt when) { stop_at_ = when; }  // from then on steps say: out of time
  // The next optimizer step: all ranks agree on its verdict; no weight changes unless loss and
  // gradients are finite and there was a label.
  StepRecord step();
  // What any rank was asked by the time when the last step's gradients were there; equal on all
  // ranks.
  struct Asked {
    int signal = 0;  // to stop, by this one; 0: by none
    bool out_of_time = false;
  };
  const Asked& asked() const { return asked_; }
  // Mean loss over a validation set (not known without a label) and its number of labels. Nothing
  // where all ranks were asked to stop before its end.
  std::optional<std::pair<double, int64_t>> validate(const DataSource& source);
  void save(const std::string& directory);  // as directory/step-XXXXXXXX

  int64_t steps_done() const { return step_; }
  int64_t steps_total() const { return steps_; }
  int64_t tokens_done() const { return tokens_; }
  Engine& engine() { return engine_; }
  const State& facts() const { return facts_; }  // of this process: app/run/resume_changes.h
  // What differs from the process that wrote the checkpoint.
  const std::vector<Change>& changes() const { return changes_; }
  Mesh& mesh() { return mesh_; }
  const Loader& loader() const { return loader_; }

 private:
  void run_micro_batches(Ctx& c, const std::vector<Batch>& batches,
                         const std::function<void(const Action&)>& after = {});
  // The device's part of a step: nothing of it waits for the host to look at a number.
  void launch(const StepBatches& batch, const StepInputs& inputs);
  // All that the ranks tell each other of a step once its gradients are there.
  void exchange_word(Ctx& c);
  // What came of it: loss, norm and verdict, in the guard's words where it is a bad one.
  void judge(const StepBatches& batch, StepRecord& record);
  std::string first_bad_op(const std::vector<Batch>& batches);

  World& world_;
  Config config_;
  Mesh mesh_;
  Device& device_;
  Engine engine_;
  Loader loader_;
  Recipe recipe_;
  StepWatch watch_;
  Tensor host_word_;  // [kHostWords] f64: what the host of each rank adds to the word
  Readback verdict_;
  Guard guard_;
  Poison poison_;
  int threads_;  // of this rank; 0: not said
  State facts_;
  std::vector<Change> changes_;
  StopAt stop_at_ = StopAt::max();
  Asked asked_;
  int64_t step_ = 0, steps_ = 0;
  int64_t tokens_ = 0;
  int64_t planned_memory_ = 0;
  int64_t updates_ = 0;  // optimizer steps taken, as the device counted them
};

// Entropy in nats of the labels' frequencies: what a model that knows only how often each token
// occurs would reach.
double unigram_entropy(const DataSource& source, const DataConfig& data, int64_t vocab,
                       int64_t max_sequences);

}  // namespace ft
