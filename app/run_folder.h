// What a run leaves in runs/NAME: the resolved configuration, metrics.jsonl, log.txt, checkpoints/.
// Rank 0 writes.
#pragma once

#include <cstdint>
#include <cstdio>
#include <map>
#include <string>

namespace ft {

// What one optimizer step showed.
struct StepRecord {
  int64_t step = 0, steps = 0;
  int64_t tokens = 0;  // seen by the run so far
  double loss = 0, grad_norm = 0, lr = 0;
  double seconds = 0, tokens_per_second = 0, eta = 0;
  int64_t memory = 0, memory_total = 0;  // bytes on this rank's device
  bool skipped = false;
  std::map<std::string, int64_t> per_source;
  std::map<std::string, double> epochs;
};

std::string step_line(const StepRecord& record);  // the line a person reads

class RunFolder {
 public:
  // Creates the folder and writes config.yaml. Metrics of steps after `step` (of a run resumed from
  // there) are dropped.
  RunFolder(const std::string& path, const std::string& config, int64_t step);
  ~RunFolder();
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;
  void add(const StepRecord& record);
  void add_validation(int64_t step, const std::string& set, double loss, int64_t tokens);

 private:
  void line(const std::string& json);
  std::string metrics_path_;
  std::FILE* metrics_ = nullptr;
};

std::string duration(double seconds);  // "18h20m", "3m05s", "12s"

}  // namespace ft
