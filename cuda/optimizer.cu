// The optimizer's ops: a block for each run of the table's pieces, one launch however many they are.
#include "core/ops.h"
#include "cuda/common/runs.h"

namespace ft::cuda {

namespace {

struct Table {
  const ops::Segment* begin;
  int64_t count;
};

// Part of a row of a piece.
struct Run {
  const ops::Segment* segment;
  int64_t at;      // of its first element in the flat buffers
  int64_t copy;    // the same among compute copies, or -1
  int64_t length;  // in elements
};

// ---- kernels ------------------------------------------------------------------------------------

// Of the last piece that begins at or before run r; those without elements begin where the next
// one does.
__device__ Run run_of(const Table& table, int64_t r) {
  int64_t low = 0, high = table.count;  // the first that begins behind r is in [low, high]
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (table.begin[middle].first_run <= r) low = middle + 1;
    else high = middle;
  }
  const ops::Segment& s = table.begin[low - 1];
  const int64_t per_row = blocks_of(s.cols, ops::kRun), run = r - s.first_run;
  const int64_t column = run % per_row * ops::kRun, place = run / per_row * s.stride + column;
  return {&s, s.offset + place, s.copy_offset < 0 ? -1 : s.copy_offset + place,
          min(ops::kRun, s.cols - column)};
}

__global__ void square_each_run(const float* x, Table table, double* partial) {
  const Run run = run_of(table, blockIdx.x);
  const double sum = sum_of_run(x + run.at, run.length, true);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

__global__ void square_pieces(const double* partial, Table table, double* squares) {
  const ops::Segment& s = table.begin[blockIdx.x];
  const double sum = sum_of_runs(partial + s.first_run, s.rows * blocks_of(s.cols, ops::kRun));
  if (threadIdx.x == 0) squares[blockIdx.x] = sum;
}

// In the table's order, by one thread, from shared memory that all fill.
__global__ void square_all(const double* squares, int64_t count, double* total) {
  __shared__ double part[kRunThreads];
  double sum = 0;
  for (int64_t begin = 0; begin < count; begin += kRunThreads) {
    const int n = static_cast<int>(min(static_cast<int64_t>(kRunThreads), count - begin));
    __syncthreads();
    if (static_cast<int>(threadIdx.x) < n) part[threadIdx.x] = squares[begin + threadIdx.x];
    __syncthreads();
    for (int i = 0; threadIdx.x == 0 && i < n; ++i) sum += part[i];
  }
  if (threadIdx.x == 0) *total = sum;
}

// f.at<N>(i) for the elements of a run, N at a time where all of them are aligned.
template <class F>
__device__ void each_element(int64_t n, bool aligned, const F& f) {
  constexpr int N = 4;
  for (int64_t i = threadIdx.x * N; i < n; i += kRunThreads * N) {
    if (aligned && i + N <= n) {
      f.template at<N>(i);
    } else {
      for (int64_t j = i; j < min(n, i + N); ++j) f.template at<1>(j);
    }
  }
}
template <class E>
__device__ bool takes_packs(const E* p) {
  return reinterpret_cast<uintptr_t>(p) % sizeof(Pack<E, 4>) == 0;
}

struct RoundRun {
  const float* w;
  bfloat16* copy;
  template <int N>
  __device__ void at(int64_t i) const {
    float v[N];
    load(w + i, v);
    store(copy + i, v);
  }
};
__global__ void round_each_run(const float* w, bfloat16* copies, Table table) {
  const Run run = run_of(table, blockIdx.x);
  if (run.copy < 0) return;
  const RoundRun f{w + run.at, copies + run.copy};
  each_element(run.length, takes_packs(f.w) && takes_packs(f.copy), f);
}

__global__ void judge(double* s, const double* loss_sum, const double* sum_squares, double most) {
  const double loss = *loss_sum / fmax(s[ops::kLabels], 1.0), norm = sqrt(*sum_squares);
  const bool apply =
      s[ops::kLabels] > 0 && isfinite(loss) && isfinite(norm) && loss <= s[ops::kLossBound];
  s[ops::kApply] = apply ? 1 : 0;
  s[ops::kCount] += s[ops::kApply];
  s[ops::kClip] = most > 0 ? fmin(1.0, most / (norm + 1e-6)) : 1.0;
}

struct Buffers {
  float *w, *m, *v;
  const float* g;
  bfloat16* copies;  // or null
};
// What a step does to every weight of a piece.
struct Update {
  float clip, keep, rate, root, beta1, beta2, eps;
};

struct UpdateRun {
  Buffers b;
  Update u;
  template <int N>
  __device__ void at(int64_t i) const {
    float w[N], m[N], v[N], g[N];
    load(b.w + i, w), load(b.m + i, m), load(b.v + i, v), load(b.g + i, g);
#pragma unroll
    for (int k = 0; k < N; ++k) {
      const float gk = g[k] * u.clip;
      m[k] = u.beta1 * m[k] + (1 - u.beta1) * gk;
      v[k] = u.beta2 * v[k] + (1 - u.beta2) * gk * gk;
      w[k] = w[k] * u.keep - u.rate * m[k] / (sqrtf(v[k]) * u.root + u.eps);
    }
    store(b.w + i, w), store(b.m + i, m), store(b.v + i, v);
    if (b.copies) store(b.copies + i, w);
  }
};

__device__ Update update_of(const double* s, const ops::Segment& piece, float beta1, float beta2,
                            float eps) {
  const double correct1 = 1 - pow(static_cast<double>(beta1), s[ops::kCount]);
  const double correct2 = 1 - pow(static_cast<double>(beta2), s[ops::kCount]);
  const double lr = s[ops::kLr] * piece.lr_multiplier;
  const double decay = lr * piece.weight_decay * s[ops::kWeightDecayFactor];
  return {static_cast<float>(s[ops::kClip]),
          static_cast<float>(1 - decay),
          static_cast<float>(lr / correct1),
          static_cast<float>(1 / sqrt(correct2)),
          beta1,
          beta2,
          eps};
}

__global__ void adamw_each_run(Buffers flat, const double* scalars, Table table, float beta1,
                               float beta2, float eps) {
  if (scalars[ops::kApply] == 0) return;
  __shared__ Run run;
  __shared__ Update update;
  if (threadIdx.x == 0) {
    run = run_of(table, blockIdx.x);
    update = update_of(scalars, *run.segment, beta1, beta2, eps);
  }
  __syncthreads();
  const bool copied = flat.copies && run.copy >= 0;
  const Buffers b{flat.w + run.at, flat.m + run.at, flat.v + run.at, flat.g + run.at,
                  copied ? flat.copies + run.copy : nullptr};
  const bool aligned = takes_packs(b.w) && takes_packs(b.m) && takes_packs(b.v) &&
                       takes_packs(b.g) && takes_packs(b.copies);
  each_element(run.length, aligned, UpdateRun{b, update});
}

// ---- launchers ----------------------------------------------------------------------------------

Table table_of(const ops::Segments& segments) {
  return {reinterpret_cast<const ops::Segment*>(ptr<const uint8_t>(segments.table)),
          segments.count};
}

}  // namespace

template <>
void need(const ops::SumSquares& op, WorkspaceNeed& n) {
  need_workspace(n, 0, op.segments.runs * static_cast<int64_t>(sizeof(double)));
}

template <>
void run(const ops::SumSquares& op, Stream stream) {
  const cudaStream_t at = stream_of(stream);
  const Table table = table_of(op.segments);
  auto* partial = workspace<double>(stream, 0, op.segments.runs);
  auto* squares = ptr<double>(op.squares);
  if (op.segments.runs > 0)
    square_each_run<<<static_cast<unsigned>(op.segments.runs), kRunThreads, 0, at>>>(
        ptr<const float>(op.x), table, partial);
  if (table.count > 0)
    square_pieces<<<static_cast<unsigned>(table.count), kRunThreads, 0, at>>>(partial, table,
                                                                              squares);
  if (op.total) square_all<<<1, kRunThreads, 0, at>>>(squares, table.count, ptr<double>(*op.total));
  launched("sum_squares");
}

template <>
void need(const ops::ComputeCopies&, WorkspaceNeed&) {}

template <>
void run(const ops::ComputeCopies& op, Stream stream) {
  if (op.segments.runs == 0) return;
  round_each_run<<<static_cast<unsigned>(op.segments.runs), kRunThreads, 0, stream_of(stream)>>>(
      ptr<const float>(op.w), ptr<bfloat16>(op.copies), table_of(op.segments));
  launched("round_each_run");
}

template <>
void need(const ops::StepVerdict&, WorkspaceNeed&) {}

template <>
void run(const ops::StepVerdict& op, Stream stream) {
  judge<<<1, 1, 0, stream_of(stream)>>>(ptr<double>(op.scalars), ptr<const double>(op.loss_sum),
                                        ptr<const double>(op.sum_squares), op.max_norm);
  launched("judge");
}

template <>
void need(const ops::AdamW&, WorkspaceNeed&) {}

template <>
void run(const ops::AdamW& op, Stream stream) {
  if (op.segments.runs == 0) return;
  const Buffers flat{ptr<float>(op.w), ptr<float>(op.m), ptr<float>(op.v), ptr<const float>(op.g),
                     op.copies ? ptr<bfloat16>(*op.copies) : nullptr};
  adamw_each_run<<<static_cast<unsigned>(op.segments.runs), kRunThreads, 0, stream_of(stream)>>>(
      flat, ptr<const double>(op.scalars), table_of(op.segments), op.beta1, op.beta2, op.eps);
  launched("adamw_each_run");
}

}  // namespace ft::cuda
