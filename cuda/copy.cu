// Copies, sums and fills: one pass over memory each.
#include "core/ops.h"
#include "cuda/common/vector.h"

namespace ft::cuda {

namespace {

// ---- kernels ------------------------------------------------------------------------------------

// fp64 takes part in copies and nowhere else: in double all the way, the others in float.
template <class To, class From>
__device__ inline To converted(From x, double scale) {
  if constexpr (std::is_same_v<To, double> && std::is_same_v<From, double>) {
    return x * scale;
  } else if constexpr (std::is_same_v<To, double>) {
    return static_cast<double>(to_float(x)) * scale;
  } else if constexpr (std::is_same_v<From, double>) {
    return from_float<To>(static_cast<float>(x * scale));
  } else {
    return from_float<To>(to_float(x) * static_cast<float>(scale));
  }
}

template <class To, class From>
struct CopyPack {
  Rows<To> y;
  Rows<const From> x;
  double scale;
  template <int N>
  __device__ void at(int64_t row, int64_t col) const {
    const Pack<From, N> from = get_pack<N>(x[row] + col);
    Pack<To, N> to;
#pragma unroll
    for (int i = 0; i < N; ++i) to.at[i] = converted<To>(from.at[i], scale);
    put_pack<N>(y[row] + col, to);
  }
};

// Bits as they are.
template <class E>
struct MovePack {
  Rows<E> y;
  Rows<const E> x;
  template <int N>
  __device__ void at(int64_t row, int64_t col) const {
    put_pack<N>(y[row] + col, get_pack<N>(x[row] + col));
  }
};

template <class Y, class X>
struct AddPack {
  Rows<Y> y;
  Rows<const X> x;
  template <int N>
  __device__ void at(int64_t row, int64_t col) const {
    float a[N], b[N];
    load(y[row] + col, a);
    load(x[row] + col, b);
#pragma unroll
    for (int i = 0; i < N; ++i) a[i] += b[i];
    store(y[row] + col, a);
  }
};

template <class E>
struct FillPack {
  Rows<E> y;
  E value;
  template <int N>
  __device__ void at(int64_t row, int64_t col) const {
    Pack<E, N> pack;
#pragma unroll
    for (int i = 0; i < N; ++i) pack.at[i] = value;
    put_pack<N>(y[row] + col, pack);
  }
};

// ---- launchers ----------------------------------------------------------------------------------

template <class F>
void with_copied_type(Dtype dtype, F&& f) {
  if (dtype == Dtype::F64) f(double{});
  else with_float(dtype, f);
}

template <class To, class From>
void copy(const ops::Copy& op, Stream stream) {
  const Extent extent = extent_of({op.y, op.x});
  const bool aligned = are_aligned({op.y, op.x});
  if constexpr (std::is_same_v<To, From>) {
    if (op.scale == 1)
      return launch_packs("copy", extent, aligned, stream,
                          MovePack<To>{rows_of<To>(op.y), rows_of<const From>(op.x)});
  }
  launch_packs("copy", extent, aligned, stream,
               CopyPack<To, From>{rows_of<To>(op.y), rows_of<const From>(op.x), op.scale});
}

template <class E>
void fill(const ops::Fill& op, E value, Stream stream) {
  launch_packs("fill", extent_of({op.y}), are_aligned({op.y}), stream,
               FillPack<E>{rows_of<E>(op.y), value});
}

}  // namespace

template <>
void need(const ops::Copy&, WorkspaceNeed&) {}

template <>
void run(const ops::Copy& op, Stream stream) {
  with_copied_type(op.y.dtype, [&](auto to) {
    with_copied_type(op.x.dtype,
                     [&](auto from) { copy<decltype(to), decltype(from)>(op, stream); });
  });
}

template <>
void need(const ops::Add&, WorkspaceNeed&) {}

template <>
void run(const ops::Add& op, Stream stream) {
  with_float(op.y.dtype, [&](auto y) {
    with_float(op.x.dtype, [&](auto x) {
      using Y = decltype(y);
      using X = decltype(x);
      launch_packs("add", extent_of({op.y, op.x}), are_aligned({op.y, op.x}), stream,
                   AddPack<Y, X>{rows_of<Y>(op.y), rows_of<const X>(op.x)});
    });
  });
}

template <>
void need(const ops::Fill&, WorkspaceNeed&) {}

template <>
void run(const ops::Fill& op, Stream stream) {
  switch (op.y.dtype) {
    case Dtype::F32:
      return fill(op, static_cast<float>(op.value), stream);
    case Dtype::BF16:
      return fill(op, __float2bfloat16_rn(static_cast<float>(op.value)), stream);
    case Dtype::F64:
      return fill(op, op.value, stream);
    default:
      return fill(op, static_cast<int32_t>(op.value), stream);
  }
}

}  // namespace ft::cuda
