#include "app/step_watch.h"

#include "app/memory_plan.h"

#include <cmath>

namespace ft {

StepWatch::StepWatch(Engine& engine, std::vector<std::string> sources, int64_t norms_every)
    : engine_(engine),
      names_(std::move(sources)),
      norms_every_(norms_every),
      norms_(engine.store(), engine.memory()) {}

void StepWatch::begin(Ctx& c, int64_t step) {
  with_norms_ = norms_every_ > 0 && (step == 1 || step % norms_every_ == 0);
  sums_.assign(2 * names_.size(), 0.0);
  c(ops::Fill{.y = engine_.model().dt_peaks()});
}

void StepWatch::micro_batch(const Batch& batch, const Extent& extent) {
  if (batch.sources.empty()) return;
  const auto length = static_cast<size_t>(extent.length);
  losses_.resize(static_cast<size_t>(extent.tokens()));
  Device& device = engine_.device();
  device.synchronize({});
  device.copy(losses_.data(), engine_.model().token_losses(extent).data,
              losses_.size() * sizeof(float), {});
  device.synchronize({});
  for (size_t row = 0; row < batch.sources.size(); ++row) {
    const auto source = static_cast<size_t>(batch.sources[row]);
    double sum = 0;
    int64_t labels = 0;
    for (size_t i = row * length; i < (row + 1) * length; ++i)
      sum += losses_[i], labels += batch.labels[i] >= 0;
    sums_[source] += sum;
    sums_[names_.size() + source] += static_cast<double>(labels);
  }
}

void StepWatch::gradients(Ctx& c) {
  if (with_norms_) norms_.compute(c);
}

void StepWatch::finish(Group& data, const StepBatches& batches, StepRecord& r) {
  finish_sources(data, batches, r);
  finish_peaks(data, r);
  if (with_norms_) r.gradient_norms = norms_.gradients(), r.weight_norms = norms_.weights();
}

void StepWatch::finish_sources(Group& data, const StepBatches& batches, StepRecord& r) {
  const auto count = static_cast<int64_t>(names_.size());
  data.all_reduce(Tensor(sums_.data(), Dtype::F64, {2 * count}), Reduce::Sum).wait();
  for (size_t s = 0; s < names_.size(); ++s) {
    // A blend may have thousands of sources: those that this step did not draw from are left out.
    const auto taken = batches.per_source.find(names_[s]);
    if (taken == batches.per_source.end() || taken->second == 0) continue;
    SourceRecord& source = r.sources[names_[s]];
    source.tokens = taken->second;
    const double labels = sums_[names_.size() + s];
    if (labels > 0) source.loss = sums_[s] / labels;
    const auto epoch = batches.epochs.find(names_[s]);
    if (epoch != batches.epochs.end()) source.epoch = epoch->second;
  }
}

// dt by layer and the resident memory: one maximum over the ranks.
void StepWatch::finish_peaks(Group& data, StepRecord& r) {
  const Tensor on_device = engine_.model().dt_peaks();
  std::vector<float> layers(static_cast<size_t>(on_device.size()));
  engine_.device().copy(layers.data(), on_device.data, layers.size() * sizeof(float), {});
  engine_.device().synchronize({});
  std::vector<double> peaks(layers.begin(), layers.end());
  peaks.push_back(static_cast<double>(peak_resident_bytes()));
  data.all_reduce(Tensor(peaks.data(), Dtype::F64, {static_cast<int64_t>(peaks.size())}),
                  Reduce::Max)
      .wait();
  r.memory_peak = static_cast<int64_t>(peaks.back());
  peaks.pop_back();
  // dt is above 0 where there is one.
  double largest = 0;
  for (double peak : peaks) largest = peak > largest || std::isnan(peak) ? peak : largest;
  if (largest != 0) r.dt_max = largest;
  if (!with_norms_) return;
  for (double peak : peaks) r.dt_max_layers.push_back(peak != 0 ? peak : kUnknown);
}

}  // namespace ft
