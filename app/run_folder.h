// What a run leaves in runs/NAME. Rank 0 writes.
//   config.yaml      the resolved configuration. Where a resumed run's differs from the one that is
//                    there, the old one stays as config.until-step-XXXXXXXX.yaml
//   metrics.jsonl    one object a step and a validation: app/metrics.h
//   events.jsonl     one object for what happened: {"time", "event", "step", ...}; events are
//                    start (with facts about model, machine and layout), stop, done
//   tensorboard/     the metrics as event files: app/tensorboard.h
//   log.txt          the lines of the terminal, with their time; a resumed run appends
//   yardstick.json   the matrix speed that MFU is measured with: app/yardstick.h
//   checkpoints/
#pragma once

#include "app/metrics.h"
#include "app/tensorboard.h"

#include <cstdint>
#include <cstdio>
#include <map>
#include <optional>
#include <string>

namespace ft {

// A file that stays open and grows by whole lines. A disk that is full does not end the run: it is
// said once, and the lines are missing.
class LineFile {
 public:
  explicit LineFile(const std::string& path);  // throws where it cannot be written
  ~LineFile();
  LineFile(const LineFile&) = delete;
  LineFile& operator=(const LineFile&) = delete;
  void add(const std::string& line);

 private:
  std::string path_;
  std::FILE* file_;
  bool torn_ = false;  // the last line may have been written in part
  bool told_ = false;
};

// Facts about a start of the run, for the report.
struct RunFacts {
  std::map<std::string, std::string> texts;  // "model", "layout", "machine", ...
  std::map<std::string, double> numbers;     // "parameters", "flops_per_token", ...
};

class RunFolder {
 public:
  // Creates the folder and writes config.yaml. Metrics of steps after `step` (of a run resumed from
  // there; 0: of a new one) are dropped.
  RunFolder(const std::string& path, const std::string& config, int64_t step, bool tensorboard);
  void add(const StepRecord& record);
  void add(const ValidationRecord& record);
  void event(const std::string& name, int64_t step, const RunFacts& facts = {});

 private:
  template <class Record>
  void show(const Record& record);
  std::optional<LineFile> metrics_, events_;
  std::optional<EventFile> tensorboard_;
};

}  // namespace ft
