// The optimizer's ops, by the table of pieces. Contracts in core/ops/optimizer.h.
#include "cpu/sum.h"

namespace ft::cpu {

namespace {

const ops::Segment* table_of(const ops::Segments& segments) {
  return reinterpret_cast<const ops::Segment*>(segments.table.ptr<uint8_t>());
}

// Part of a row of a piece.
struct Run {
  const ops::Segment& segment;
  int64_t place;   // of its first element, counted from the piece's first
  int64_t length;  // in elements
};

// f(run, its number) for the runs of all pieces, shared among threads.
template <class F>
void for_runs(const ops::Segments& segments, F&& f) {
  const ops::Segment *begin = table_of(segments), *end = begin + segments.count;
  parallel_for(segments.runs, [&](int64_t r) {
    // The last that begins at or before it; those without elements begin where the next one does.
    const ops::Segment& s =
        *(std::upper_bound(begin, end, r,
                           [](int64_t run, const ops::Segment& s) { return run < s.first_run; }) -
          1);
    const int64_t per_row = blocks_of(s.cols, ops::kRun), run = r - s.first_run;
    const int64_t column = run % per_row * ops::kRun;
    f(Run{s, run / per_row * s.stride + column, std::min(ops::kRun, s.cols - column)}, r);
  });
}

}  // namespace

template <>
void need(const ops::SumSquares& op, WorkspaceNeed& n) {
  n.main(kPartials, op.segments.runs * static_cast<int64_t>(sizeof(double)));
}

template <>
void run(const ops::SumSquares& op, Stream) {
  auto* partial = static_cast<double*>(
      workspace(kPartials, static_cast<size_t>(op.segments.runs) * sizeof(double)));
  const float* x = op.x.f32();
  for_runs(op.segments, [&](const Run& run, int64_t r) {
    partial[r] =
        sum_of(x + run.segment.offset + run.place, run.length, [](double v) { return v * v; });
  });
  double total = 0, *squares = op.squares.ptr<double>();
  for (int64_t i = 0; i < op.segments.count; ++i) {
    const ops::Segment& s = table_of(op.segments)[i];
    double sum = 0;
    for (int64_t r = s.first_run; r < s.first_run + s.runs(); ++r) sum += partial[r];
    squares[i] = sum;
    total += sum;
  }
  if (op.total) *op.total->ptr<double>() = total;
}

template <>
void need(const ops::ComputeCopies&, WorkspaceNeed&) {}

template <>
void run(const ops::ComputeCopies& op, Stream) {
  const float* w = op.w.f32();
  auto* copies = op.copies.ptr<bf16>();
  for_runs(op.segments, [&](const Run& run, int64_t) {
    if (run.segment.copy_offset < 0) return;
    const float* from = w + run.segment.offset + run.place;
    bf16* to = copies + run.segment.copy_offset + run.place;
    for (int64_t i = 0; i < run.length; ++i) to[i] = bf16(from[i]);
  });
}

template <>
void need(const ops::StepVerdict&, WorkspaceNeed&) {}

template <>
void run(const ops::StepVerdict& op, Stream) {
  auto* s = op.scalars.ptr<double>();
  const double loss = *op.loss_sum.ptr<double>() / std::max(s[ops::kLabels], 1.0);
  const double norm = std::sqrt(*op.sum_squares.ptr<double>());
  const bool apply = s[ops::kLabels] > 0 && std::isfinite(loss) && std::isfinite(norm) &&
                     loss <= s[ops::kLossBound];
  s[ops::kApply] = apply ? 1 : 0;
  s[ops::kCount] += s[ops::kApply];
  s[ops::kClip] = op.max_norm > 0 ? std::min(1.0, op.max_norm / (norm + 1e-6)) : 1.0;
}

namespace {

// What a step does to every weight of a piece.
struct Update {
  float clip, keep, rate, root, beta1, beta2, eps;
};

void update_run(const ops::AdamW& op, const Update u, const Run& run) {
  const int64_t at = run.segment.offset + run.place, n = run.length;
  float* w = op.w.f32() + at;
  float* m = op.m.f32() + at;
  float* v = op.v.f32() + at;
  const float* g = op.g.f32() + at;
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const float gi = g[i] * u.clip;
    m[i] = u.beta1 * m[i] + (1 - u.beta1) * gi;
    v[i] = u.beta2 * v[i] + (1 - u.beta2) * gi * gi;
    w[i] = w[i] * u.keep - u.rate * m[i] / (std::sqrt(v[i]) * u.root + u.eps);
  }
  if (!op.copies || run.segment.copy_offset < 0) return;
  bf16* low = op.copies->ptr<bf16>() + run.segment.copy_offset + run.place;
  for (int64_t i = 0; i < n; ++i) low[i] = bf16(w[i]);
}

}  // namespace

template <>
void need(const ops::AdamW&, WorkspaceNeed&) {}

template <>
void run(const ops::AdamW& op, Stream) {
  const auto* s = op.scalars.ptr<double>();
  if (s[ops::kApply] == 0) return;
  const double correct1 = 1 - std::pow(static_cast<double>(op.beta1), s[ops::kCount]);
  const double correct2 = 1 - std::pow(static_cast<double>(op.beta2), s[ops::kCount]);
  const auto root = static_cast<float>(1 / std::sqrt(correct2));
  for_runs(op.segments, [&](const Run& run, int64_t) {
    const double lr = s[ops::kLr] * run.segment.lr_multiplier;
    const double decay = lr * run.segment.weight_decay * s[ops::kWeightDecayFactor];
    update_run(op,
               {.clip = static_cast<float>(s[ops::kClip]),
                .keep = static_cast<float>(1 - decay),
                .rate = static_cast<float>(lr / correct1),
                .root = root,
                .beta1 = op.beta1,
                .beta2 = op.beta2,
                .eps = op.eps},
               run);
  });
}

}  // namespace ft::cpu
