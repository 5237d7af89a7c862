// The optimizer's ops, by the table of pieces. Contracts in core/ops/optimizer.h.
#include "core/ops.h"
#include "cuda/common/elementwise.h"

namespace ft::cuda {

namespace {

constexpr int kThreads = 256;

// The table as a kernel sees it.
struct Table {
  const ops::Segment* segments;
  int64_t count;
};

// ---- kernels ------------------------------------------------------------------------------------

// A block's part of a row of a piece.
struct Run {
  const ops::Segment* segment;
  int64_t place;   // of its first element, counted from the piece's first
  int64_t length;  // in elements
};
__device__ Run run_of(const Table& table, int64_t run) {
  // The last that begins at or before it; those without elements begin where the next one does.
  int64_t low = 0, high = table.count;
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    if (table.segments[middle].first_run <= run) low = middle;
    else high = middle;
  }
  const ops::Segment* s = table.segments + low;
  const int64_t per_row = blocks_of(s->cols, ops::kRun), mine = run - s->first_run;
  const int64_t column = mine % per_row * ops::kRun;
  return {s, mine / per_row * s->stride + column, min(ops::kRun, s->cols - column)};
}

__global__ void __launch_bounds__(kThreads)
    square_runs(const float* x, Table table, double* partial) {
  const Run run = run_of(table, blockIdx.x);
  const float* from = x + run.segment->offset + run.place;
  double sum = 0;
  for (int64_t i = threadIdx.x; i < run.length; i += kThreads) {
    const auto value = static_cast<double>(from[i]);
    sum += value * value;
  }
  sum = block_sum<kThreads>(sum);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(kThreads)
    fold_segments(Table table, const double* partial, double* squares) {
  const ops::Segment& s = table.segments[blockIdx.x];
  double sum = 0;
  for (int64_t r = threadIdx.x; r < s.runs(); r += kThreads) sum += partial[s.first_run + r];
  sum = block_sum<kThreads>(sum);
  if (threadIdx.x == 0) squares[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(kThreads)
    fold_total(const double* squares, int64_t count, double* total) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < count; i += kThreads) sum += squares[i];
  sum = block_sum<kThreads>(sum);
  if (threadIdx.x == 0) *total = sum;
}

// f.at<4>(i) for four elements at once where all places are aligned, f.at<1>(i) for the others.
template <class F>
__device__ void each_of(int64_t length, bool aligned, const F& f) {
  const int64_t fours = aligned ? length / 4 : 0;
  for (int64_t i = threadIdx.x; i < fours; i += kThreads) f.template at<4>(i * 4);
  for (int64_t i = fours * 4 + threadIdx.x; i < length; i += kThreads) f.template at<1>(i);
}

struct CopyRun {
  const float* from;
  bfloat16* to;
  template <int N>
  __device__ void at(int64_t i) const {
    float value[N];
    load<N>(from + i, value), store<N>(to + i, value);
  }
};

__global__ void __launch_bounds__(kThreads)
    compute_copies(const float* w, bfloat16* copies, Table table) {
  const Run run = run_of(table, blockIdx.x);
  if (run.segment->copy_offset < 0) return;
  const int64_t from = run.segment->offset + run.place, to = run.segment->copy_offset + run.place;
  each_of(run.length, ((from | to) & 3) == 0, CopyRun{w + from, copies + to});
}

__global__ void step_verdict(double* s, const double* loss_sum, const double* sum_squares,
                             double max_norm) {
  const double loss = *loss_sum / fmax(s[ops::kLabels], 1.0), norm = sqrt(*sum_squares);
  const bool apply =
      s[ops::kLabels] > 0 && isfinite(loss) && isfinite(norm) && loss <= s[ops::kLossBound];
  s[ops::kApply] = apply ? 1 : 0;
  s[ops::kCount] += s[ops::kApply];
  s[ops::kClip] = max_norm > 0 ? fmin(1.0, max_norm / (norm + 1e-6)) : 1.0;
}

struct Adam {
  float beta1, beta2, eps;
};
// What a step does to every weight of a run.
struct UpdateRun {
  Adam adam;
  float clip, keep, rate, root;
  float *w, *m, *v;
  const float* g;
  bfloat16* copy;  // null: it has none
  template <int N>
  __device__ void at(int64_t i) const {
    float wi[N], mi[N], vi[N], gi[N];
    load<N>(w + i, wi), load<N>(m + i, mi), load<N>(v + i, vi), load<N>(g + i, gi);
#pragma unroll
    for (int j = 0; j < N; ++j) {
      const float gradient = gi[j] * clip;
      mi[j] = adam.beta1 * mi[j] + (1 - adam.beta1) * gradient;
      vi[j] = adam.beta2 * vi[j] + (1 - adam.beta2) * gradient * gradient;
      wi[j] = wi[j] * keep - rate * mi[j] / (sqrtf(vi[j]) * root + adam.eps);
    }
    store<N>(w + i, wi), store<N>(m + i, mi), store<N>(v + i, vi);
    if (copy) store<N>(copy + i, wi);
  }
};

struct State {
  float *w, *m, *v;
  const float* g;
  bfloat16* copies;
};

__global__ void __launch_bounds__(kThreads)
    adamw(State state, const double* s, Table table, Adam adam) {
  if (s[ops::kApply] == 0) return;
  __shared__ float rate, root, keep;
  const Run run = run_of(table, blockIdx.x);
  if (threadIdx.x == 0) {
    const double correct1 = 1 - pow(static_cast<double>(adam.beta1), s[ops::kCount]);
    const double correct2 = 1 - pow(static_cast<double>(adam.beta2), s[ops::kCount]);
    const double lr = s[ops::kLr] * run.segment->lr_multiplier;
    rate = static_cast<float>(lr / correct1), root = static_cast<float>(1 / sqrt(correct2));
    keep = static_cast<float>(1 - lr * run.segment->weight_decay * s[ops::kWeightDecayFactor]);
  }
  __syncthreads();
  const bool has_copy = state.copies && run.segment->copy_offset >= 0;
  const int64_t at = run.segment->offset + run.place;
  const int64_t copy_at = has_copy ? run.segment->copy_offset + run.place : 0;
  each_of(run.length, ((at | copy_at) & 3) == 0,
          UpdateRun{adam, static_cast<float>(s[ops::kClip]), keep, rate, root, state.w + at,
                    state.m + at, state.v + at, state.g + at,
                    has_copy ? state.copies + copy_at : nullptr});
}

// ---- launchers ----------------------------------------------------------------------------------

Table table_of(const ops::Segments& segments) {
  return {reinterpret_cast<const ops::Segment*>(ptr<const uint8_t>(segments.table)),
          segments.count};
}
unsigned blocks(const ops::Segments& segments) { return static_cast<unsigned>(segments.runs); }

}  // namespace

template <>
void need(const ops::SumSquares& op, WorkspaceNeed& n) {
  need_workspace(n, 0, op.segments.runs * static_cast<int64_t>(sizeof(double)));
}

template <>
void run(const ops::SumSquares& op, Stream stream) {
  const Table table = table_of(op.segments);
  auto* partial = workspace<double>(stream, 0, op.segments.runs);
  auto* squares = ptr<double>(op.squares);
  const cudaStream_t on = stream_of(stream);
  if (op.segments.runs > 0) {
    square_runs<<<blocks(op.segments), kThreads, 0, on>>>(ptr<const float>(op.x), table, partial);
    launched("square_runs");
  }
  if (op.segments.count > 0) {
    fold_segments<<<static_cast<unsigned>(op.segments.count), kThreads, 0, on>>>(table, partial,
                                                                                 squares);
    launched("fold_segments");
  }
  if (!op.total) return;
  fold_total<<<1, kThreads, 0, on>>>(squares, op.segments.count, ptr<double>(*op.total));
  launched("fold_total");
}

template <>
void need(const ops::ComputeCopies&, WorkspaceNeed&) {}

template <>
void run(const ops::ComputeCopies& op, Stream stream) {
  if (op.segments.runs == 0) return;
  compute_copies<<<blocks(op.segments), kThreads, 0, stream_of(stream)>>>(
      ptr<const float>(op.w), ptr<bfloat16>(op.copies), table_of(op.segments));
  launched("compute_copies");
}

template <>
void need(const ops::StepVerdict&, WorkspaceNeed&) {}

template <>
void run(const ops::StepVerdict& op, Stream stream) {
  step_verdict<<<1, 1, 0, stream_of(stream)>>>(ptr<double>(op.scalars),
                                               ptr<const double>(op.loss_sum),
                                               ptr<const double>(op.sum_squares), op.max_norm);
  launched("step_verdict");
}

template <>
void need(const ops::AdamW&, WorkspaceNeed&) {}

template <>
void run(const ops::AdamW& op, Stream stream) {
  if (op.segments.runs == 0) return;
  const State state{ptr<float>(op.w), ptr<float>(op.m), ptr<float>(op.v), ptr<const float>(op.g),
                    op.copies ? ptr<bfloat16>(*op.copies) : nullptr};
  adamw<<<blocks(op.segments), kThreads, 0, stream_of(stream)>>>(
      state, ptr<const double>(op.scalars), table_of(op.segments),
      Adam{op.beta1, op.beta2, op.eps});
  launched("adamw");
}

}  // namespace ft::cuda
