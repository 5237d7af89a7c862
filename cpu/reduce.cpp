// Sums and peaks of tensors. Contracts in core/ops/reduce.h.
#include "cpu/sum.h"

namespace ft::cpu {

namespace {

// Rows and columns of a tensor of one or two dims; dense memory is cut into runs so that threads
// share it.
struct Runs {
  int64_t rows, cols, stride, per_row;
  explicit Runs(const Tensor& t) {
    const bool flat = t.dense();
    rows = flat || t.dims == 1 ? 1 : t.rows();
    cols = flat || t.dims == 1 ? t.size() : t.cols();
    stride = flat ? 0 : t.stride[0];
    per_row = blocks_of(cols, ops::kRun);
  }
  int64_t count() const { return rows * per_row; }
  int64_t begin(int64_t run) const { return run % per_row * ops::kRun; }  // column
  int64_t length(int64_t run) const { return std::min(ops::kRun, cols - begin(run)); }
  int64_t offset(int64_t run, const Tensor& t) const {  // in a tensor of the same shape
    return run / per_row * (rows == 1 ? 0 : t.stride[0]) + begin(run);
  }
};

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
void need(const ops::SumByRow&, WorkspaceNeed&) {}

// A number a token: not worth the threads.
template <>
void run(const ops::SumByRow& op, Stream) {
  const int64_t rows = op.group_of_row.size(), groups = op.sums.size() / 2;
  const int64_t length = rows > 0 ? op.losses.size() / rows : 0;
  const float* losses = op.losses.f32();
  const int32_t *labels = op.labels.i32(), *group = op.group_of_row.i32();
  auto* sums = op.sums.ptr<double>();
  for (int64_t r = 0; r < rows; ++r) {
    double loss = 0;
    int64_t counted = 0;
    for (int64_t t = r * length; t < (r + 1) * length; ++t)
      loss += losses[t], counted += labels[t] >= 0;
    sums[group[r]] += loss;
    sums[groups + group[r]] += static_cast<double>(counted);
  }
}

}  // namespace ft::cpu
