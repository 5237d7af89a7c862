// Cross-entropy with fp32 statistics; the gradient replaces the logits. Formula in core/ops.h.
#include "cpu/common.h"

namespace ft::cpu {

template <>
void need(const ops::CrossEntropy& op, WorkspaceNeed& n) {
  each_f32(n, {kRowA}, op.logits.cols());
}

template <>
void run(const ops::CrossEntropy& op, Stream) {
  const int64_t T = op.logits.rows(), V = op.vocab, padded = op.logits.cols();
  const int32_t* labels = op.labels.i32();
  float *loss = op.loss.f32(), *z = op.z.f32();
  parallel_for(T, [&](int64_t t) {
    float* x = workspace_f32(kRowA, padded);
    const int32_t label = labels[t];
    loss[t] = z[t] = 0;
    if (label < 0) {
      std::fill_n(x, padded, 0.0f);
      if (op.inv_count) store(op.logits, t, padded, x);
      return;
    }
    load(op.logits, t, padded, x);
    float high = x[0];
#pragma omp simd reduction(max : high)
    for (int64_t i = 1; i < V; ++i) high = std::max(high, x[i]);
    const float target = x[label] - high;
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < V; ++i) {
      x[i] = exp_f(x[i] - high);
      sum += x[i];
    }
    const float log_sum = std::log(sum), lse = high + log_sum;
    loss[t] = log_sum - target;
    z[t] = lse * lse;
    if (!op.inv_count) return;
    const float inv = *op.inv_count->f32(), scale = inv * (1.0f + 2.0f * op.z_loss * lse) / sum;
    for (int64_t i = 0; i < V; ++i) x[i] *= scale;
    x[label] -= inv;
    std::fill(x + V, x + padded, 0.0f);
    store(op.logits, t, padded, x);
  });
}

}  // namespace ft::cpu
