// What a run leaves in runs/NAME. Rank 0 writes.
//   config.yaml      the resolved configuration. Where a resumed run's differs from the one that is
//                    there, the old one stays as config.until-step-XXXXXXXX.yaml
//   metrics.jsonl    one object a step and a validation: app/metrics.h. A run that goes back to an
//                    earlier checkpoint leaves the lines of later steps in
//                    metrics.after-step-XXXXXXXX.jsonl (then .2.jsonl, ...)
//   events.jsonl     one object for what happened: {"time", "event", "step", ...}; events are
//                    start (with facts about model, machine and layout), stop, done
//   tensorboard/     the metrics as event files: app/tensorboard.h
//   log.txt          the lines of the terminal, with their time; a resumed run appends
//   checkpoints/
#pragma once

#include "app/metrics.h"
#include "app/tensorboard.h"
#include "core/append_file.h"

#include <cstdint>
#include <map>
#include <optional>
#include <string>

namespace ft {

// A file that stays open and grows by whole lines; what is wrong with it is logged
// (core/append_file.h).
class LineFile {
 public:
  explicit LineFile(const std::string& path);  // throws where it cannot be written
  void add(const std::string& line) { file_.add(line + "\n"); }
  void sync() { file_.sync(); }

 private:
  AppendFile file_;
};

// Facts about a start of the run, for the report.
struct RunFacts {
  std::map<std::string, std::string> texts;  // "model", "layout", "machine", ...
  std::map<std::string, double> numbers;     // "parameters", "flops_per_token", ...
};

class RunFolder {
 public:
  // Creates the folder and writes config.yaml. Lines of steps after `step` (that the run goes on
  // from; 0: it is new) are moved to metrics.after-step-XXXXXXXX.jsonl, and so for the events.
  RunFolder(const std::string& path, const std::string& config, int64_t step, bool tensorboard);
  void add(const StepRecord& record);
  void add(const ValidationRecord& record);
  void event(const std::string& name, int64_t step, const RunFacts& facts = {});
  void sync();  // metrics and events are on the disk after this

 private:
  template <class Record>
  void show(const Record& record);
  std::optional<LineFile> metrics_, events_;
  std::optional<EventFile> tensorboard_;
};

}  // namespace ft
