// What a run measures: names and units in one place. Two files show it, metrics.jsonl and the
// TensorBoard events; the log line and the report are made from the same record.
//
// metrics.jsonl holds one strict JSON object a line. A number that is not finite is null. Keys are
// only ever added. The line of an optimizer step has
//   step                  its number, from 1
//   tokens                tokens the run has seen, this step included
//   batch                 sequences of this step, over all ranks
//   labels                labels of this step that count; of none, loss and grad_norm are null
//   loss                  mean cross-entropy of the step's labels, in nats
//   grad_norm             norm of all gradients before clipping
//   lr                    learning rate
//   weight_decay          weight decay of matrices
//   seconds               duration of the step; validation and checkpoints are not part of it
//   tokens_per_second     of all ranks together
//   mfu                   model FLOPs over what the matrix product of all ranks, measured in the
//                         run's precision (app/train/yardstick.h), would have done in that time, 0 to 1;
//                         null where that was not measured
//   memory_planned_bytes  a rank's planned memory
//   memory_peak_bytes     largest resident memory of any rank before the step's update
//   skipped               true: the guard left the step out, no weight was changed
//   dt_max                largest dt of the Mamba-2 mixers over the step's tokens, heads and layers
//                         (after softplus and limits); null without such mixers
//   sources               by name of the sources that this step drew from: loss (null where it gave
//                         no label), tokens taken in this step, epoch reached (tokens taken so far
//                         over the tokens of the source)
// and every log.norms_every steps, taken before the step's update,
//   gradient_norms        by class of parameters (core/param.h), before clipping
//   weight_norms          by class of parameters
//   dt_max_layers         dt_max of each layer; null for a layer without Mamba-2
// The line of a validation has
//   step, validation      after which step, name of the set
//   loss                  mean cross-entropy of its labels, in nats
//   tokens                number of labels; of none, the loss is null
//   bits_per_byte         loss in bits by bytes of text; null where the set's note does not say how
//                         many bytes its tokens stand for
//
// TensorBoard's tags are train/..., norms/gradient/CLASS, norms/weight/CLASS, sources/NAME/...,
// validation/NAME.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <vector>

namespace ft {

inline constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

struct SourceRecord {
  double loss = kUnknown;
  int64_t tokens = 0;
  double epoch = 0;
};

// What one optimizer step showed; the file's comment says what each is.
struct StepRecord {
  int64_t step = 0, steps = 0;  // steps: of the whole run
  int64_t tokens = 0, batch = 0, labels = 0;
  double loss = 0, grad_norm = 0, lr = 0, weight_decay = 0;
  double seconds = 0, tokens_per_second = 0, mfu = kUnknown, eta = 0;
  int64_t memory = 0, memory_total = 0, memory_peak = 0;  // total: bytes of the device
  bool skipped = false;
  double dt_max = kUnknown;
  std::vector<double> dt_max_layers;
  std::map<std::string, SourceRecord> sources;
  std::map<std::string, double> gradient_norms, weight_norms;
};

struct ValidationRecord {
  int64_t step = 0;
  std::string set;
  double loss = 0;
  int64_t tokens = 0;
  double bits_per_byte = kUnknown;
};

std::string json_line(const StepRecord& record);  // without the line's end
std::string json_line(const ValidationRecord& record);

// Calls f(tag, value) for each number that TensorBoard shows; those not known are left out.
using ScalarSink = std::function<void(const std::string& tag, double value)>;
void for_scalars(const StepRecord& record, const ScalarSink& f);
void for_scalars(const ValidationRecord& record, const ScalarSink& f);

// Numbers for people.
std::string duration(double seconds);      // "18h20m", "3m05s", "12s"
std::string rate_text(double per_second);  // "142.1k", "1.25M", "812"
std::string count_text(double count);      // "1.23B", "4.10M", "12.3k", "812"
std::string grouped_count(int64_t count);  // "12,345,678"
std::string bytes_text(double bytes);      // "1.23 GiB", "45.6 MiB", "812 bytes"

}  // namespace ft
