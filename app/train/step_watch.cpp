#include "app/train/step_watch.h"

#include <cmath>

namespace ft {

namespace {
enum Read : size_t { kSums, kPeaks, kGradients, kWeights };
}

StepWatch::StepWatch(Engine& engine, std::vector<std::string> sources, int64_t norms_every)
    : engine_(engine),
      names_(std::move(sources)),
      norms_every_(norms_every),
      norms_(engine.store(), engine.memory()),
      sums_(engine.memory().make("inputs", Dtype::F64, {2 * static_cast<int64_t>(names_.size())})),
      source_of_row_(engine.memory().make("inputs", Dtype::I32, {engine.largest().sequences})),
      readback_(engine.device(), {sums_, engine.model().dt_peaks(),
                                  engine.optimizer().piece_squares(), norms_.squares()}) {}

void StepWatch::begin(Ctx& c, int64_t step) {
  c.where = "metrics";
  with_norms_ = norms_every_ > 0 && (step == 1 || step % norms_every_ == 0);
  c(ops::Fill{.y = sums_});
  c(ops::Fill{.y = engine_.model().dt_peaks()});
}

void StepWatch::micro_batch(Ctx& c, const Batch& batch) {
  if (batch.sources.empty()) return;
  const Extent extent{batch.sequences, batch.length};
  c.where = "metrics";
  const Tensor sources = source_of_row_.row_range(0, extent.sequences);
  engine_.memory().transfer().upload(sources, batch.sources.data());
  c(ops::SumByRow{.sums = sums_,
                  .losses = engine_.model().token_losses(extent),
                  .labels = engine_.model().inputs(0).labels.row_range(0, extent.tokens()),
                  .group_of_row = sources});
}

void StepWatch::gradients(Ctx& c) {
  if (with_norms_) norms_.compute(c);
}

void StepWatch::finish(const StepBatches& batches, StepRecord& r) {
  finish_sources(batches, r);
  finish_peaks(r);
  if (!with_norms_) return;
  r.gradient_norms = norms_.norms(readback_.values(kGradients));
  r.weight_norms = norms_.norms(readback_.values(kWeights));
}

void StepWatch::finish_sources(const StepBatches& batches, StepRecord& r) {
  const std::vector<double> sums = readback_.values(kSums);
  for (size_t s = 0; s < names_.size(); ++s) {
    // A blend may have thousands of sources: those that this step did not draw from are left out.
    const auto taken = batches.per_source.find(names_[s]);
    if (taken == batches.per_source.end() || taken->second == 0) continue;
    SourceRecord& source = r.sources[names_[s]];
    source.tokens = taken->second;
    const double labels = sums[names_.size() + s];
    if (labels > 0) source.loss = sums[s] / labels;
    const auto epoch = batches.epochs.find(names_[s]);
    if (epoch != batches.epochs.end()) source.epoch = epoch->second;
  }
}

void StepWatch::finish_peaks(StepRecord& r) {
  const std::vector<double> peaks = readback_.values(kPeaks);
  // dt is above 0 where there is one.
  double largest = 0;
  for (double peak : peaks) largest = peak > largest || std::isnan(peak) ? peak : largest;
  if (largest != 0) r.dt_max = largest;
  if (!with_norms_) return;
  for (double peak : peaks) r.dt_max_layers.push_back(peak != 0 ? peak : kUnknown);
}

}  // namespace ft
