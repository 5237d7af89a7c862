// What a run leaves in runs/NAME. Rank 0 writes; a failure is written by the rank that has it.
//   config.yaml      the resolved configuration. Where a resumed run's differs from the one that is
//                    there, the old one stays as config.until-step-XXXXXXXX.yaml
//   metrics.jsonl    one object a step and a validation: app/run/metrics.h. A run that goes back to an
//                    earlier checkpoint leaves the lines of later steps in
//                    metrics.after-step-XXXXXXXX.jsonl (then .2.jsonl, ...)
//   events.jsonl     one object for what happened: below
//   tensorboard/     the metrics as event files: app/run/tensorboard.h
//   log.txt          the lines of the terminal, with their time; a resumed run appends
//   yardstick.json   the matrix speed that MFU is measured with: app/train/yardstick.h
//   checkpoints/
//
// events.jsonl only grows. Each line is a strict JSON object {"time" (UTC), "event", "step", ...};
// step is the last one done when it happened, or the one that it is about. A process that goes on
// from step N does later steps again: what lines before its start say of them (spike, skip, ...)
// belongs to a course that was left. Texts but for those marked as numbers (n), which are null where
// not known:
//   start        a process begins, new or resumed (step > 0): machine, pattern, build,
//                libraries.NAME, resumed_from, init_from; ranks n, threads n (of a rank),
//                parameters n, steps n, model_flops_per_token n, sgemm_flops n
//   init_from    weights came from a Hugging Face folder: path; tensors n, parameters n
//   resume       after start: from (checkpoint), bitwise ("yes", or what keeps the run from going on
//                bit for bit); changed: [{what, from, to}], such as
//                {"what": "optimizer.lr", "from": "1e-3", "to": "2e-3"}
//   passed_over  a newer checkpoint that cannot be used: why
//   moved        an earlier life's record or later checkpoints were put aside: from, to, why
//   save         path; seconds n, bytes n
//   save_failed  why, next (what will be tried)
//   removal      of a checkpoint: path, why
//   spike        why, action (warn, skip, stop); loss n, bound n
//   non_finite   why, action (skip, stop); loss n, grad_norm n
//   no_labels    the step had no label that counts
//   skip         no weight was changed: why (spike, non_finite, no_labels)
//   validation_failed   set, why
//   failure      the process ends with an error: message; rank n, exit_code n
//   stop         saved before the end: why ("SIGTERM", "run.stop_before"), path
//   done         the last step is done and saved: path
#pragma once

#include "app/run/metrics.h"
#include "app/run/tensorboard.h"
#include "core/append_file.h"

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

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

// What is not as it was: "optimizer.lr", "1e-3", "2e-3".
struct Change {
  std::string what, from, to;
};

// The fields of an event.
struct RunFacts {
  std::map<std::string, std::string> texts;  // "machine", "pattern", ...
  std::map<std::string, double> numbers;     // "parameters", "model_flops_per_token", ...
  std::optional<std::vector<Change>> changed;
};

class RunFolder {
 public:
  // Creates the folder and writes config.yaml. Lines of steps after `step` (that the run goes on
  // from; 0: it is new) are moved to metrics.after-step-XXXXXXXX.jsonl.
  RunFolder(const std::string& path, const std::string& config, int64_t step, bool tensorboard);
  void add(const StepRecord& record);
  void add(const ValidationRecord& record);
  void event(const std::string& name, int64_t step, const RunFacts& facts = {});
  // Whether that set was read after the step that the run goes on from.
  bool was_validated(const std::string& set) const { return validated_.contains(set); }
  void sync();  // metrics and events are on the disk after this

 private:
  template <class Record>
  void show(const Record& record);
  std::optional<LineFile> metrics_, events_;
  std::optional<EventFile> tensorboard_;
  std::set<std::string> validated_;
};

// The event `failure`, from the rank that has the last word (rank 0 need not be alive): from
// record_failures_in() on, into the events of that run's folder (none: nowhere), after the step of failure_step().
void record_failures_in(const std::string& path, int rank);
void failure_step(int64_t step);
void record_failure(const std::string& message, int exit_code) noexcept;

}  // namespace ft
