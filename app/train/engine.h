// A model ready to run on one rank: device, memory, parameters, scratch. Built the same way for a
// real run and, with virtual memory, for the plan.
#pragma once

#include "app/config/config.h"
#include "core/context.h"
#include "core/memory.h"
#include "data/loader.h"
#include "models/decoder/model.h"
#include "parallel/comm/comm.h"
#include "parallel/optimizer.h"
#include "parallel/store.h"

#include <memory>
#include <optional>
#include <string>

namespace ft {

// Of this rank, with the threads that are its share of the machine. Collective.
std::unique_ptr<Device> open_device(const RunConfig& run, World& world);
// Of a process that works alone.
std::unique_ptr<Device> open_device(const RunConfig& run);
Precision precision_of(const TrainConfig& train);
Recompute recompute_of(const std::string& name);  // "none", "selective", "full"

class Engine {
 public:
  struct Options {
    ModelConfig model;
    Precision precision;
    ModelPlan plan;
    bool is_virtual = false;
  };
  Engine(Device& device, const Options& options);

  Ctx context() { return Ctx(device_, scratch_, !memory_.is_virtual()); }
  // FLOPs, bytes and workspaces of one pass over the largest micro-batch, counted without
  // running.
  Tally count(bool backward) { return count_pass(plan_.largest, backward); }

  void load_folder(const std::string& hf_folder);      // Hugging Face safetensors
  void load_checkpoint(const Checkpoint& checkpoint);  // weights only
  void refresh_weights();                              // after any change of master weights
  // Copies a batch to the device's buffers of a slot. Throws where ids, labels or documents point
  // outside of the model's tables.
  Extent feed(int64_t slot, const Batch& batch);
  void set_inv_count(double valid_tokens);
  double read(const Tensor& scalar) { return memory_.transfer().read(scalar); }

  Device& device() { return device_; }
  Memory& memory() { return memory_; }
  // What the ops of passes of any size and of the update take for themselves.
  const WorkspaceNeed& workspaces() const { return workspaces_; }
  Model& model() { return model_; }
  const Extent& largest() const { return plan_.largest; }  // micro-batch
  Store& store() { return store_; }
  Optimizer& optimizer() { return *optimizer_; }  // of an engine that is planned for training

  // What comes before and after the passes of a step, on each of that many data-parallel ranks.
  Tally count_update(int ranks);

 private:
  Tally count_pass(const Extent& extent, bool backward);
  void check(const Batch& batch) const;

  Device& device_;
  Memory memory_;
  Scratch scratch_;
  Model model_;
  Store store_;
  std::optional<Optimizer> optimizer_;
  ModelPlan plan_;
  WorkspaceNeed workspaces_;
};

// Model source of probe, generate, inspect: a Hugging Face folder, a checkpoint, or a run's folder
// (its newest one).
struct ModelSource {
  ModelConfig model;
  std::string tokenizer;  // as the run's configuration named it; empty when unknown
  DataConfig data;        // of the run; defaults for a Hugging Face folder
  std::string folder;     // Hugging Face, or empty
  std::shared_ptr<Checkpoint> checkpoint;  // or null
};
ModelSource open_model(const std::string& path);
void load_weights(Engine& engine, const ModelSource& source);

}  // namespace ft
