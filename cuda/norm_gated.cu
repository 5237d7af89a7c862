// The gate of Mamba-2 with its optional grouped RMSNorm; formulas in core/ops/norm.h. With the norm
// a block goes over a row's group twice and finds it in the cache the second time; without it the
// gate is one pass over memory. With a = z_scale z:
//   g = out_scale dy [silu(a)],  s = x [silu(a)],  dw = sum_t g s r,  ds = r (g w - s r^2 mean(g w s))
#include "core/ops.h"
#include "cuda/common/fold.h"
#include "cuda/common/norm.h"

namespace ft::cuda {

namespace {

// ---- kernels ------------------------------------------------------------------------------------

template <class E>
struct GatePack {
  Rows<const E> x, z;
  Rows<E> y;
  float z_scale, out_scale;
  template <int N>
  __device__ void at(int64_t row, int64_t col) const {
    float v[N], a[N];
    load(x[row] + col, v);
    load(z[row] + col, a);
#pragma unroll
    for (int i = 0; i < N; ++i) v[i] *= silu<E>(z_scale * a[i]) * out_scale;
    store(y[row] + col, v);
  }
};

template <class E>
struct GateGradPack {
  Rows<const E> x, z, dy;
  Rows<E> dx, dz;
  float z_scale, out_scale;
  template <int N>
  __device__ void at(int64_t row, int64_t col) const {
    float v[N], a[N], d[N];
    load(x[row] + col, v);
    load(z[row] + col, a);
    load(dy[row] + col, d);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const float b = z_scale * a[i], s = sigmoid<E>(b), dyi = out_scale * d[i];
      a[i] = dyi * v[i] * silu_slope(b, s) * z_scale;
      v[i] = dyi * (b * s);
    }
    store(dx[row] + col, v);
    store(dz[row] + col, a);
  }
};

// One group of a row: n channels from column `first`.
struct Shape {
  int64_t T, C, n, groups;
  float z_scale, out_scale;
  bool before;  // the norm, before the gate
};

template <class E>
struct Forward {
  Shape s;
  Rows<const E> x, z;
  const float* w;
  Rows<E> y;
  float *rstd, eps;
  bool cached;  // shared memory holds the norm's input
};

// x, or x silu(a): the norm's input.
template <int N, class E>
__device__ void load_input(const Forward<E>& op, const E* x, const E* z, float (&v)[N]) {
  load(x, v);
  if (op.s.before) return;
  float a[N];
  load(z, a);
#pragma unroll
  for (int i = 0; i < N; ++i) v[i] *= silu<E>(op.s.z_scale * a[i]);
}

template <int N, int kThreads, class E>
__global__ void __launch_bounds__(kThreads) gated_norm(Forward<E> op) {
  extern __shared__ float cache[];  // [N][n / N]
  const int64_t t = blockIdx.x / op.s.groups, first = blockIdx.x % op.s.groups * op.s.n;
  const int64_t packs = op.s.n / N;
  const E *x = op.x[t] + first, *z = op.z[t] + first;
  E* y = op.y[t] + first;
  const float* w = op.w + first;
  float sum = 0;
  for (int64_t p = threadIdx.x; p < packs; p += kThreads) {
    float v[N];
    load_input(op, x + p * N, z + p * N, v);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      sum += v[i] * v[i];
      if (op.cached) cache[i * packs + p] = v[i];
    }
  }
  sum = block_sum<kThreads>(sum);
  const float r = 1.0f / sqrtf(sum / static_cast<float>(op.s.n) + op.eps);
  if (threadIdx.x == 0) op.rstd[blockIdx.x] = r;
  for (int64_t p = threadIdx.x; p < packs; p += kThreads) {
    float v[N], wv[N];
    if (op.cached) {
#pragma unroll
      for (int i = 0; i < N; ++i) v[i] = cache[i * packs + p];
    } else {
      load_input(op, x + p * N, z + p * N, v);
    }
    load(w + p * N, wv);
#pragma unroll
    for (int i = 0; i < N; ++i) v[i] *= r * wv[i];
    if (op.s.before) {
      load(z + p * N, wv);
#pragma unroll
      for (int i = 0; i < N; ++i) v[i] *= silu<E>(op.s.z_scale * wv[i]);
    }
#pragma unroll
    for (int i = 0; i < N; ++i) v[i] *= op.s.out_scale;
    store(y + p * N, v);
  }
}

template <class E>
struct Backward {
  Shape s;
  Rows<const E> x, z, dy;
  const float *w, *rstd;
  Rows<E> dx, dz;
  float* partial;  // [blocks of rows, C] of dw
  bool shared;     // dw's sums fit into shared memory
};

// Of an element: what both passes need.
struct Element {
  float x, a, sigmoid, d;  // d = out_scale dy
  __device__ float gate() const { return a * sigmoid; }
  __device__ float slope() const { return silu_slope(a, sigmoid); }
  __device__ float input(bool before) const { return before ? x : x * gate(); }
  __device__ float gradient(bool before) const { return before ? d * gate() : d; }
};
template <int N, class E>
__device__ void load_elements(const Backward<E>& op, int64_t t, int64_t c, Element (&e)[N]) {
  float x[N], z[N], d[N];
  load(op.x[t] + c, x);
  load(op.z[t] + c, z);
  load(op.dy[t] + c, d);
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const float a = op.s.z_scale * z[i];
    e[i] = {x[i], a, sigmoid<E>(a), op.s.out_scale * d[i]};
  }
}

// Adds the row's group to dw; the sum over it of g w s.
template <int N, int kThreads, class E>
__device__ float add_row(const Backward<E>& op, int64_t t, int64_t first, float r, float* dw) {
  const int64_t packs = op.s.n / N;
  float dot = 0;
  for (int64_t p = threadIdx.x; p < packs; p += kThreads) {
    Element e[N];
    float w[N];
    load_elements(op, t, first + p * N, e);
    load(op.w + first + p * N, w);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const float g = e[i].gradient(op.s.before), s = e[i].input(op.s.before);
      dw[i * packs + p] += g * s * r;
      dot += g * w[i] * s;
    }
  }
  return block_sum<kThreads>(dot);
}

// k = r^2 mean(g w s)
template <int N, int kThreads, class E>
__device__ void write_row(const Backward<E>& op, int64_t t, int64_t first, float r, float k) {
  for (int64_t c = first + threadIdx.x * N; c < first + op.s.n; c += kThreads * N) {
    Element e[N];
    float w[N], dx[N], dz[N];
    load_elements(op, t, c, e);
    load(op.w + c, w);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const float g = e[i].gradient(op.s.before), s = e[i].input(op.s.before);
      const float ds = r * (g * w[i] - s * k);
      dx[i] = op.s.before ? ds : ds * e[i].gate();
      const float dgate = op.s.before ? e[i].d * w[i] * s * r : ds * e[i].x;
      dz[i] = dgate * e[i].slope() * op.s.z_scale;
    }
    store(op.dx[t] + c, dx);
    store(op.dz[t] + c, dz);
  }
}

template <int N, int kThreads, class E>
__global__ void __launch_bounds__(kThreads) gated_norm_grad(Backward<E> op) {
  extern __shared__ float memory[];
  const int64_t block = blockIdx.x / op.s.groups, group = blockIdx.x % op.s.groups;
  const int64_t first = group * op.s.n;
  float* to = op.partial + block * op.s.C + first;
  float* dw = op.shared ? memory : to;
  clear_sums<N, kThreads>(dw, op.s.n);
  const int64_t begin = block * kNormRows, end = min(op.s.T, begin + kNormRows);
  for (int64_t t = begin; t < end; ++t) {
    const float r = op.rstd[t * op.s.groups + group];
    const float dot = add_row<N, kThreads>(op, t, first, r, dw);
    write_row<N, kThreads>(op, t, first, r, r * r * dot / static_cast<float>(op.s.n));
  }
  if (op.shared) copy_sums<N, kThreads>(dw, to, op.s.n);
}

// ---- launchers ----------------------------------------------------------------------------------

Shape shape_of(const ops::GatedNormInputs& in) {
  return {in.x.rows(), in.x.cols(),  in.x.cols() / in.groups, in.groups,
          in.z_scale,  in.out_scale, in.norm_before_gate};
}

template <class E>
void gate(const ops::GatedNorm& op, Stream stream) {
  launch_packs("gate", extent_of({op.in.x, op.in.z, op.y}), are_aligned({op.in.x, op.in.z, op.y}),
               stream,
               GatePack<E>{rows_of<const E>(op.in.x), rows_of<const E>(op.in.z), rows_of<E>(op.y),
                           op.in.z_scale, op.in.out_scale});
}

template <class E>
void norm(const ops::GatedNorm& op, Stream stream) {
  const Shape s = shape_of(op.in);
  const SumsPlan cache(s.n);
  const Forward<E> job{s,
                       rows_of<const E>(op.in.x),
                       rows_of<const E>(op.in.z),
                       ptr<const float>(*op.in.w),
                       rows_of<E>(op.y),
                       ptr<float>(*op.rstd),
                       op.eps,
                       cache.shared};
  with_row(s.n, s.n % kPack == 0 && are_aligned({op.in.x, op.in.z, *op.in.w, op.y}),
           [&](auto pack, auto threads) {
             constexpr int N = decltype(pack)::value, kThreads = decltype(threads)::value;
             allow_shared(gated_norm<N, kThreads, E>, cache.bytes + SumsPlan::kStatic);
             gated_norm<N, kThreads><<<static_cast<unsigned>(s.T * s.groups), kThreads,
                                       static_cast<size_t>(cache.bytes), stream_of(stream)>>>(job);
           });
  launched("gated_norm");
}

template <class E>
void gate_grad(const ops::GatedNormGrad& op, Stream stream) {
  launch_packs(
      "gate_grad", extent_of({op.in.x, op.in.z, op.dy, op.dx, op.dz}),
      are_aligned({op.in.x, op.in.z, op.dy, op.dx, op.dz}), stream,
      GateGradPack<E>{rows_of<const E>(op.in.x), rows_of<const E>(op.in.z), rows_of<const E>(op.dy),
                      rows_of<E>(op.dx), rows_of<E>(op.dz), op.in.z_scale, op.in.out_scale});
}

template <class E>
void norm_grad(const ops::GatedNormGrad& op, float* partial, Stream stream) {
  const Shape s = shape_of(op.in);
  const SumsPlan sums(s.n);
  const Backward<E> job{s,
                        rows_of<const E>(op.in.x),
                        rows_of<const E>(op.in.z),
                        rows_of<const E>(op.dy),
                        ptr<const float>(*op.in.w),
                        ptr<const float>(*op.rstd),
                        rows_of<E>(op.dx),
                        rows_of<E>(op.dz),
                        partial,
                        sums.shared};
  const bool aligned = sums.shared && s.n % kPack == 0 &&
                       are_aligned({op.in.x, op.in.z, op.dy, *op.in.w, op.dx, op.dz});
  with_row(s.n, aligned, [&](auto pack, auto threads) {
    constexpr int N = decltype(pack)::value, kThreads = decltype(threads)::value;
    allow_shared(gated_norm_grad<N, kThreads, E>, sums.bytes + SumsPlan::kStatic);
    gated_norm_grad<N, kThreads>
        <<<static_cast<unsigned>(blocks_of(s.T, kNormRows) * s.groups), kThreads,
           static_cast<size_t>(sums.bytes), stream_of(stream)>>>(job);
  });
  launched("gated_norm_grad");
}

}  // namespace

template <>
void need(const ops::GatedNorm&, WorkspaceNeed&) {}

template <>
void run(const ops::GatedNorm& op, Stream stream) {
  if (op.in.x.size() == 0) return;
  with_float(op.in.x.dtype, [&](auto type) {
    if (op.in.w) norm<decltype(type)>(op, stream);
    else gate<decltype(type)>(op, stream);
  });
}

template <>
void need(const ops::GatedNormGrad& op, WorkspaceNeed& n) {
  if (op.in.w) need_workspace(n, 0, norm_partials(op.in.x) * static_cast<int64_t>(sizeof(float)));
}

template <>
void run(const ops::GatedNormGrad& op, Stream stream) {
  const int64_t T = op.in.x.rows();
  float* partial = op.in.w ? workspace<float>(stream, 0, norm_partials(op.in.x)) : nullptr;
  if (op.in.x.size() > 0)
    with_float(op.in.x.dtype, [&](auto type) {
      if (op.in.w) norm_grad<decltype(type)>(op, partial, stream);
      else gate_grad<decltype(type)>(op, stream);
    });
  if (op.in.w)
    launch_fold(partial, blocks_of(T, kNormRows), op.in.x.cols(), stream,
                FoldInto{ptr<float>(*op.dw), 1, op.grad == Grad::Accumulate});
}

}  // namespace ft::cuda
