// Copies, sums and fills: one pass over memory each.
#include "core/ops.h"
#include "cuda/common/elementwise.h"

namespace ft::cuda {

namespace {

// ---- kernels ------------------------------------------------------------------------------------

// fp64 takes part in copies and nowhere else: in double all the way, the others in float.
template <class To, class From>
struct CopyEach {
  Rows<To> y;
  Rows<const From> x;
  float scale;
  template <int N>
  __device__ void at(int64_t r, int64_t c) const {
    if constexpr (std::is_same_v<To, double> || std::is_same_v<From, double>) {
#pragma unroll
      for (int i = 0; i < N; ++i) {
        const double value = scale * wide(x[r][c + i]);
        if constexpr (std::is_same_v<To, double>) y[r][c + i] = value;
        else y[r][c + i] = from_float<To>(static_cast<float>(value));
      }
    } else {
      float value[N];
      load<N>(x[r] + c, value);
#pragma unroll
      for (float& v : value) v *= scale;
      store<N>(y[r] + c, value);
    }
  }
  template <class E>
  __device__ static double wide(E value) {
    if constexpr (std::is_same_v<E, double>) return value;
    else return static_cast<double>(to_float(value));
  }
};

template <class To, class From>
struct AddEach {
  Rows<To> y;
  Rows<const From> x;
  template <int N>
  __device__ void at(int64_t r, int64_t c) const {
    float a[N], b[N];
    load<N>(y[r] + c, a), load<N>(x[r] + c, b);
#pragma unroll
    for (int i = 0; i < N; ++i) a[i] += b[i];
    store<N>(y[r] + c, a);
  }
};

template <class E>
struct FillEach {
  Rows<E> y;
  E value;
  template <int N>
  __device__ void at(int64_t r, int64_t c) const {
    Vec<E, N> all;
#pragma unroll
    for (E& v : all.v) v = value;
    *reinterpret_cast<Vec<E, N>*>(y[r] + c) = all;
  }
};

// ---- launchers ----------------------------------------------------------------------------------

template <class F>
void with_copied_type(Dtype dtype, F&& f) {
  if (dtype == Dtype::F64) f(double{});
  else with_float(dtype, f);
}

template <class E>
void fill(const Tensor& y, E value, Stream stream) {
  const auto [rows, cols] = shape_of(y);
  for_each("fill", FillEach<E>{rows_of<E>(y), value}, rows, cols, allow_wide(cols, y), stream);
}

}  // namespace

template <>
void need(const ops::Copy&, WorkspaceNeed&) {}

template <>
void run(const ops::Copy& op, Stream stream) {
  const auto [rows, cols] = shape_of(op.y, op.x);
  const bool wide = allow_wide(cols, op.y, op.x);
  with_copied_type(op.y.dtype, [&](auto to) {
    with_copied_type(op.x.dtype, [&](auto from) {
      using To = decltype(to);
      using From = decltype(from);
      for_each("copy", CopyEach<To, From>{rows_of<To>(op.y), rows_of<const From>(op.x), op.scale},
               rows, cols, wide, stream);
    });
  });
}

template <>
void need(const ops::Add&, WorkspaceNeed&) {}

template <>
void run(const ops::Add& op, Stream stream) {
  const auto [rows, cols] = shape_of(op.y, op.x);
  const bool wide = allow_wide(cols, op.y, op.x);
  with_float(op.y.dtype, [&](auto to) {
    with_float(op.x.dtype, [&](auto from) {
      using To = decltype(to);
      using From = decltype(from);
      for_each("add", AddEach<To, From>{rows_of<To>(op.y), rows_of<const From>(op.x)}, rows, cols,
               wide, stream);
    });
  });
}

template <>
void need(const ops::Fill&, WorkspaceNeed&) {}

template <>
void run(const ops::Fill& op, Stream stream) {
  switch (op.y.dtype) {
    case Dtype::BF16:
      return fill(op.y, __float2bfloat16_rn(static_cast<float>(op.value)), stream);
    case Dtype::F64:
      return fill(op.y, op.value, stream);
    case Dtype::I32:
      return fill(op.y, static_cast<int32_t>(op.value), stream);
    default:
      return fill(op.y, static_cast<float>(op.value), stream);
  }
}

}  // namespace ft::cuda
