// Sums and peaks of tensors. Contracts in core/ops/reduce.h.
#include "core/ops.h"
#include "cuda/common/elementwise.h"

namespace ft::cuda {

namespace {

constexpr int kThreads = 256;

// The runs that a tensor of one or two dims is cut into; dense memory counts as one row.
struct Runs {
  int64_t rows, cols, per_row;
  explicit Runs(const Tensor& t) {
    const Shape shape = shape_of(t);
    rows = shape.rows, cols = shape.cols, per_row = blocks_of(cols, ops::kRun);
  }
  __host__ __device__ int64_t count() const { return rows * per_row; }
};

// ---- kernels ------------------------------------------------------------------------------------

template <class E>
__global__ void __launch_bounds__(kThreads)
    sum_runs(Rows<const E> x, Runs runs, bool squared, double* partial) {
  for (int64_t run = blockIdx.x; run < runs.count(); run += gridDim.x) {
    const int64_t begin = run % runs.per_row * ops::kRun;
    const int64_t end = min(begin + ops::kRun, runs.cols);
    const E* row = x[run / runs.per_row];
    double sum = 0;
    for (int64_t i = begin + threadIdx.x; i < end; i += kThreads) {
      const auto value = static_cast<double>(to_float(row[i]));
      sum += squared ? value * value : value;
    }
    sum = block_sum<kThreads>(sum);
    if (threadIdx.x == 0) partial[run] = sum;
  }
}

__global__ void __launch_bounds__(kThreads)
    fold_runs(const double* partial, int64_t count, bool accumulate, double* out) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < count; i += kThreads) sum += partial[i];
  sum = block_sum<kThreads>(sum);
  if (threadIdx.x == 0) *out = accumulate ? *out + sum : sum;
}

// Of numbers without sign the larger has the larger bits, and NaN the largest.
template <class E>
__global__ void __launch_bounds__(kThreads) abs_max(Rows<const E> x, Runs runs, unsigned* highest) {
  unsigned most = 0;
  for (int64_t run = blockIdx.x; run < runs.count(); run += gridDim.x) {
    const int64_t begin = run % runs.per_row * ops::kRun;
    const int64_t end = min(begin + ops::kRun, runs.cols);
    const E* row = x[run / runs.per_row];
    for (int64_t i = begin + threadIdx.x; i < end; i += kThreads)
      most = max(most, __float_as_uint(to_float(row[i])) & 0x7fffffffu);
  }
  most = __reduce_max_sync(0xffffffffu, most);
  if (threadIdx.x % kWarp == 0) atomicMax(highest, most);  // in any order the same
}

__global__ void __launch_bounds__(kThreads)
    sum_by_row(const float* losses, const int32_t* labels, const int32_t* group, int64_t rows,
               int64_t length, int64_t groups, double* sums) {
  for (int64_t r = 0; r < rows; ++r) {
    double loss = 0, counted = 0;
    for (int64_t i = threadIdx.x; i < length; i += kThreads) {
      loss += static_cast<double>(losses[r * length + i]);
      counted += labels[r * length + i] >= 0 ? 1 : 0;
    }
    loss = block_sum<kThreads>(loss), counted = block_sum<kThreads>(counted);
    if (threadIdx.x != 0) continue;
    sums[group[r]] += loss;
    sums[groups + group[r]] += counted;
  }
}

// ---- launchers ----------------------------------------------------------------------------------

unsigned grid_of(const Runs& runs) {
  return static_cast<unsigned>(std::clamp<int64_t>(runs.count(), 1, 1 << 20));
}

}  // namespace

template <>
void need(const ops::Sum& op, WorkspaceNeed& n) {
  need_workspace(n, 0, Runs(op.x).count() * static_cast<int64_t>(sizeof(double)));
}

template <>
void run(const ops::Sum& op, Stream stream) {
  const Runs runs(op.x);
  auto* partial = workspace<double>(stream, 0, runs.count());
  with_float(op.x.dtype, [&](auto element) {
    using E = decltype(element);
    sum_runs<<<grid_of(runs), kThreads, 0, stream_of(stream)>>>(rows_of<const E>(op.x), runs,
                                                                op.squared, partial);
    launched("sum_runs");
  });
  fold_runs<<<1, kThreads, 0, stream_of(stream)>>>(
      partial, runs.count(), op.grad == Grad::Accumulate, ptr<double>(op.out));
  launched("fold_runs");
}

template <>
void need(const ops::AbsMax&, WorkspaceNeed&) {}

template <>
void run(const ops::AbsMax& op, Stream stream) {
  const Runs runs(op.x);
  auto* out = reinterpret_cast<unsigned*>(ptr<float>(op.out));
  FT_CUDA(cudaMemsetAsync(out, 0, sizeof(float), stream_of(stream)));
  with_float(op.x.dtype, [&](auto element) {
    using E = decltype(element);
    abs_max<<<grid_of(runs), kThreads, 0, stream_of(stream)>>>(rows_of<const E>(op.x), runs, out);
    launched("abs_max");
  });
}

template <>
void need(const ops::SumByRow&, WorkspaceNeed&) {}

template <>
void run(const ops::SumByRow& op, Stream stream) {
  const int64_t rows = op.group_of_row.size();
  if (rows == 0) return;
  sum_by_row<<<1, kThreads, 0, stream_of(stream)>>>(
      ptr<const float>(op.losses), ptr<const int32_t>(op.labels),
      ptr<const int32_t>(op.group_of_row), rows, op.losses.size() / rows, op.sums.size() / 2,
      ptr<double>(op.sums));
  launched("sum_by_row");
}

}  // namespace ft::cuda
