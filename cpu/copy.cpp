// Copies, sums and fills: one pass over memory each.
#include "cpu/common.h"

namespace ft::cpu {

namespace {

FT_VECTOR void add_scaled(float* y, const float* x, int64_t n, float scale) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] += scale * x[i];
}

// Runs of at most kRun elements, numbered row by row, so that threads share tensors of one dim too.
constexpr int64_t kRun = 16384;
Tensor as_rows(const Tensor& t) { return t.dims == 2 ? t : t.view({1, t.size()}); }

// f(row, first column, columns) for each run.
template <class F>
void for_runs(const Tensor& y, F&& f) {
  const int64_t C = y.cols(), per_row = blocks_of(C, kRun), runs = y.rows() * per_row;
  parallel_for(runs, [&](int64_t r) {
    const int64_t begin = r % per_row * kRun;
    f(r / per_row, begin, std::min(kRun, C - begin));
  });
}

// fp64 takes part in copies and nowhere else: in double all the way, the others in float.
template <class To, class From>
void copy_run(To* to, const From* from, int64_t n, double scale) {
  if constexpr (std::is_same_v<To, From>) {
    if (scale == 1)
      return static_cast<void>(std::memmove(to, from, static_cast<size_t>(n) * sizeof(To)));
  }
  if constexpr (std::is_same_v<To, double>) {
    if constexpr (std::is_same_v<From, double>)
      for (int64_t i = 0; i < n; ++i) to[i] = from[i] * scale;
    else
      for (int64_t i = 0; i < n; ++i) to[i] = static_cast<double>(to_float(from[i])) * scale;
  } else if constexpr (std::is_same_v<From, double>) {
    for (int64_t i = 0; i < n; ++i) put(to[i], static_cast<float>(from[i] * scale));
  } else {
    const auto factor = static_cast<float>(scale);
    for (int64_t i = 0; i < n; ++i) put(to[i], to_float(from[i]) * factor);
  }
}

template <class F>
void with_copied_type(Dtype dtype, F&& f) {
  if (dtype == Dtype::F64) return f(double{});
  with_type(dtype, f);
}

}  // namespace

template <>
void need(const ops::Copy&, WorkspaceNeed&) {}

template <>
void run(const ops::Copy& op, Stream) {
  const Tensor y = as_rows(op.y), x = as_rows(op.x);
  with_copied_type(y.dtype, [&](auto to) {
    with_copied_type(x.dtype, [&](auto from) {
      for_runs(y, [&](int64_t r, int64_t begin, int64_t n) {
        copy_run(row<decltype(to)>(y, r) + begin, row<decltype(from)>(x, r) + begin, n, op.scale);
      });
    });
  });
}

template <>
void need(const ops::Add& op, WorkspaceNeed& n) {
  each_f32(n, {kRowA, kRowB}, std::min(kRun, as_rows(op.y).cols()));
}

template <>
void run(const ops::Add& op, Stream) {
  const Tensor y = as_rows(op.y), x = as_rows(op.x);
  for_runs(y, [&](int64_t r, int64_t begin, int64_t n) {
    const Tensor to = y.columns(begin, begin + n), from = x.columns(begin, begin + n);
    float *a = workspace_f32(kRowA, n), *b = workspace_f32(kRowB, n);
    load(to, r, n, a);
    load(from, r, n, b);
    add_scaled(a, b, n, 1.0f);
    store(to, r, n, a);
  });
}

template <>
void need(const ops::Fill&, WorkspaceNeed&) {}

template <>
void run(const ops::Fill& op, Stream) {
  const Tensor y = as_rows(op.y);
  const auto fill = [&](auto value) {
    for_runs(y, [&](int64_t r, int64_t begin, int64_t n) {
      std::fill_n(row<decltype(value)>(y, r) + begin, n, value);
    });
  };
  switch (y.dtype) {
    case Dtype::F32:
      return fill(static_cast<float>(op.value));
    case Dtype::BF16:
      return fill(bf16(static_cast<float>(op.value)));
    case Dtype::F64:
      return fill(op.value);
    case Dtype::I32:
      return fill(static_cast<int32_t>(op.value));
    default:
      assert(false);
  }
}

}  // namespace ft::cpu
