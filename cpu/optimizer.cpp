// Reductions and AdamW.
#include "cpu/common.h"

namespace ft::cpu {

namespace {

// Rows and columns of a tensor of one or two dims; dense memory is cut into runs so that threads
// share it.
constexpr int64_t kRun = 4096;

// Calls f(pointer-offset, count) for each run in a fixed order of numbering; returns the number of
// runs.
struct Runs {
  int64_t rows, cols, stride, per_row;
  // `flat`: every tensor walked together is dense.
  explicit Runs(const Tensor& t) : Runs(t, t.dense()) {}
  Runs(const Tensor& t, bool flat) {
    rows = flat || t.dims == 1 ? 1 : t.rows();
    cols = flat || t.dims == 1 ? t.size() : t.cols();
    stride = flat ? 0 : t.stride[0];
    per_row = blocks_of(cols, kRun);
  }
  int64_t count() const { return rows * per_row; }
  int64_t begin(int64_t run) const { return run % per_row * kRun; }  // column
  int64_t length(int64_t run) const { return std::min(kRun, cols - begin(run)); }
  int64_t offset(int64_t run, const Tensor& t) const {  // in a tensor of the same shape
    return run / per_row * (rows == 1 ? 0 : t.stride[0]) + begin(run);
  }
};

// The sum of f over n numbers, in double: sixteen sums side by side, since each addition waits for
// the one before.
template <class E, class F>
double sum_of(const E* x, int64_t n, F&& f) {
  constexpr int64_t kSums = 16;
  double sums[kSums] = {};
  int64_t i = 0;
  for (; i + kSums <= n; i += kSums)
    for (int64_t j = 0; j < kSums; ++j) sums[j] += f(to_float(x[i + j]));
  for (; i < n; ++i) sums[i % kSums] += f(to_float(x[i]));
  double total = 0;
  for (double sum : sums) total += sum;
  return total;
}

}  // namespace

template <>
void need(const ops::Sum& op, WorkspaceNeed& n) {
  n.main(kPartials, Runs(op.x).count() * static_cast<int64_t>(sizeof(double)));
}

template <>
void run(const ops::Sum& op, Stream) {
  const Runs runs(op.x);
  auto* partial = static_cast<double*>(
      workspace(kPartials, static_cast<size_t>(runs.count()) * sizeof(double)));
  with_type(op.x.dtype, [&](auto type) {
    const auto* x = static_cast<const decltype(type)*>(op.x.data);
    parallel_for(runs.count(), [&](int64_t r) {
      const auto* from = x + runs.offset(r, op.x);
      const int64_t n = runs.length(r);
      partial[r] = op.squared ? sum_of(from, n, [](double v) { return v * v; })
                              : sum_of(from, n, [](double v) { return v; });
    });
  });
  double total = 0;
  for (int64_t r = 0; r < runs.count(); ++r) total += partial[r];
  double& out = *op.out.ptr<double>();
  out = op.grad == Grad::Accumulate ? out + total : total;
}

template <>
void need(const ops::AbsMax&, WorkspaceNeed&) {}

template <>
void run(const ops::AbsMax& op, Stream) {
  const Runs runs(op.x);
  float highest = 0;
  with_type(op.x.dtype, [&](auto type) {
    const auto* x = static_cast<const decltype(type)*>(op.x.data);
    for (int64_t r = 0; r < runs.count(); ++r)
      for (int64_t i = 0; i < runs.length(r); ++i) {
        const float v = std::fabs(to_float(x[runs.offset(r, op.x) + i]));
        if (v > highest || std::isnan(v)) highest = v;
        if (std::isnan(highest)) break;
      }
  });
  *op.out.f32() = highest;
}

template <>
void need(const ops::ClipFactor&, WorkspaceNeed&) {}

template <>
void run(const ops::ClipFactor& op, Stream) {
  const double norm = std::sqrt(*op.sum_squares.ptr<double>());
  *op.factor.f32() =
      op.max_norm > 0 ? static_cast<float>(std::min(1.0, op.max_norm / (norm + 1e-6))) : 1.0f;
}

namespace {

// What a step does to every weight.
struct Update {
  float clip, keep, rate, root, beta1, beta2, eps;
};

void update_run(const ops::AdamW& op, const Update u, const Runs& runs, int64_t r) {
  float* w = op.w.f32() + runs.offset(r, op.w);
  float* m = op.m.f32() + runs.offset(r, op.m);
  float* v = op.v.f32() + runs.offset(r, op.v);
  const float* g = op.g.f32() + runs.offset(r, op.g);
  const int64_t n = runs.length(r);
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const float gi = g[i] * u.clip;
    m[i] = u.beta1 * m[i] + (1 - u.beta1) * gi;
    v[i] = u.beta2 * v[i] + (1 - u.beta2) * gi * gi;
    w[i] = w[i] * u.keep - u.rate * m[i] / (std::sqrt(v[i]) * u.root + u.eps);
  }
  if (!op.compute) return;
  bf16* low = op.compute->ptr<bf16>() + runs.offset(r, *op.compute);
  for (int64_t i = 0; i < n; ++i) low[i] = bf16(w[i]);
}

}  // namespace

template <>
void need(const ops::AdamW&, WorkspaceNeed&) {}

template <>
void run(const ops::AdamW& op, Stream) {
  const float* s = op.scalars.f32();
  const double lr = static_cast<double>(s[0]) * op.lr_multiplier, step = s[1];
  const double correct1 = 1 - std::pow(static_cast<double>(op.beta1), step);
  const double correct2 = 1 - std::pow(static_cast<double>(op.beta2), step);
  const Update update{.clip = s[2],
                      .keep = static_cast<float>(1 - lr * op.weight_decay * s[3]),
                      .rate = static_cast<float>(lr / correct1),
                      .root = static_cast<float>(1 / std::sqrt(correct2)),
                      .beta1 = op.beta1,
                      .beta2 = op.beta2,
                      .eps = op.eps};
  const bool dense = op.w.dense() && op.m.dense() && op.v.dense() && op.g.dense() &&
                     (!op.compute || op.compute->dense());
  const Runs runs(op.w, dense);
  parallel_for(runs.count(), [&](int64_t r) { update_run(op, update, runs, r); });
}

}  // namespace ft::cpu
