// Sums and peaks of tensors, by runs of kRun elements of a row.
#include "core/ops.h"
#include "cuda/common/runs.h"

namespace ft::cuda {

namespace {

// Rows and columns of a tensor of one or two dims; dense memory is one row.
struct Runs {
  int64_t rows, cols, stride, per_row;
  explicit Runs(const Tensor& t) {
    const Extent extent = extent_of({t});
    rows = extent.rows, cols = extent.cols;
    stride = rows > 1 ? t.stride[0] : 0;
    per_row = blocks_of(cols, ops::kRun);
  }
  __host__ __device__ int64_t count() const { return rows * per_row; }
  __device__ int64_t begin(int64_t run) const { return run % per_row * ops::kRun; }  // column
  __device__ int64_t length(int64_t run) const { return min(ops::kRun, cols - begin(run)); }
  __device__ int64_t offset(int64_t run) const { return run / per_row * stride + begin(run); }
};

// ---- kernels ------------------------------------------------------------------------------------

template <class E>
__global__ void sum_each_run(const E* x, Runs runs, bool squared, double* partial) {
  const int64_t r = blockIdx.x;
  const double sum = sum_of_run(x + runs.offset(r), runs.length(r), squared);
  if (threadIdx.x == 0) partial[r] = sum;
}

__global__ void sum_all_runs(const double* partial, int64_t count, double* out, bool accumulate) {
  const double sum = sum_of_runs(partial, count);
  if (threadIdx.x == 0) *out = accumulate ? *out + sum : sum;
}

// Magnitudes order like their bits, with NaN above infinity; of whole numbers the largest does not
// depend on the order.
template <class E>
__global__ void peak_of_run(const E* x, Runs runs, unsigned* peak) {
  unsigned high = 0;
  each_of_run(x + runs.offset(blockIdx.x), runs.length(blockIdx.x),
              [&](float v) { high = max(high, __float_as_uint(fabsf(v))); });
  high = __reduce_max_sync(0xffffffffu, high);
  if (threadIdx.x % kWarp == 0) atomicMax(peak, high);
}

constexpr int kRowTokens = 1024;

// A row's losses are added in order by one thread, from shared memory that all fill.
__global__ void sum_row(const float* losses, const int32_t* labels, int64_t length, double* sums,
                        double* counts) {
  __shared__ float part[kRowTokens];
  const int64_t first = blockIdx.x * length;
  double sum = 0, counted = 0;
  for (int64_t begin = 0; begin < length; begin += kRowTokens) {
    const int n = static_cast<int>(min(static_cast<int64_t>(kRowTokens), length - begin));
    __syncthreads();
    for (int i = threadIdx.x; i < n; i += kRunThreads) {
      part[i] = losses[first + begin + i];
      counted += labels[first + begin + i] >= 0;
    }
    __syncthreads();
    for (int i = 0; threadIdx.x == 0 && i < n; ++i) sum += part[i];
  }
  counted = block_sum<kRunThreads>(counted);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum, counts[blockIdx.x] = counted;
}

__global__ void add_rows(const double* row_sums, const double* row_counts, const int32_t* group,
                         int64_t rows, int64_t groups, double* sums) {
  for (int64_t r = 0; r < rows; ++r) {
    if (group[r] < 0 || group[r] >= groups) continue;
    sums[group[r]] += row_sums[r];
    sums[groups + group[r]] += row_counts[r];
  }
}

}  // namespace

// ---- launchers ----------------------------------------------------------------------------------

template <>
void need(const ops::Sum& op, WorkspaceNeed& n) {
  need_workspace(n, 0, Runs(op.x).count() * static_cast<int64_t>(sizeof(double)));
}

template <>
void run(const ops::Sum& op, Stream stream) {
  const Runs runs(op.x);
  const int64_t count = runs.count();
  auto* partial = workspace<double>(stream, 0, count);
  if (count > 0) {
    with_float(op.x.dtype, [&](auto type) {
      sum_each_run<<<static_cast<unsigned>(count), kRunThreads, 0, stream_of(stream)>>>(
          ptr<const decltype(type)>(op.x), runs, op.squared, partial);
    });
    launched("sum_each_run");
  }
  sum_all_runs<<<1, kRunThreads, 0, stream_of(stream)>>>(partial, count, ptr<double>(op.out),
                                                         op.grad == Grad::Accumulate);
  launched("sum_all_runs");
}

template <>
void need(const ops::AbsMax&, WorkspaceNeed&) {}

template <>
void run(const ops::AbsMax& op, Stream stream) {
  const Runs runs(op.x);
  FT_CUDA(cudaMemsetAsync(ptr<float>(op.out), 0, sizeof(float), stream_of(stream)));
  if (runs.count() == 0) return;
  with_float(op.x.dtype, [&](auto type) {
    peak_of_run<<<static_cast<unsigned>(runs.count()), kRunThreads, 0, stream_of(stream)>>>(
        ptr<const decltype(type)>(op.x), runs, reinterpret_cast<unsigned*>(ptr<float>(op.out)));
  });
  launched("peak_of_run");
}

template <>
void need(const ops::SumByRow& op, WorkspaceNeed& n) {
  need_workspace(n, 0, 2 * op.group_of_row.size() * static_cast<int64_t>(sizeof(double)));
}

template <>
void run(const ops::SumByRow& op, Stream stream) {
  const int64_t rows = op.group_of_row.size();
  if (rows == 0) return;
  auto* partial = workspace<double>(stream, 0, 2 * rows);
  sum_row<<<static_cast<unsigned>(rows), kRunThreads, 0, stream_of(stream)>>>(
      ptr<const float>(op.losses), ptr<const int32_t>(op.labels), op.losses.size() / rows, partial,
      partial + rows);
  launched("sum_row");
  add_rows<<<1, 1, 0, stream_of(stream)>>>(partial, partial + rows,
                                           ptr<const int32_t>(op.group_of_row), rows,
                                           op.sums.size() / 2, ptr<double>(op.sums));
  launched("add_rows");
}

}  // namespace ft::cuda
