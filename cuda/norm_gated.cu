// The gate of Mamba-2 with its optional grouped RMSNorm; formulas in core/ops/norm.h. A block takes
// the channels of a group.
#include "core/ops.h"
#include "cuda/common/silu.h"
#include "cuda/common/vector.h"

namespace ft::cuda {

namespace {

// ---- kernels ------------------------------------------------------------------------------------

enum class Form { Gate, GateThenNorm, NormThenGate };

template <class E>
struct ForwardArgs {
  Rows<const E> x, z;
  const float* w;
  Rows<E> y;
  float* rstd;
  int64_t groups, columns;  // columns of a group
  float z_scale, out_scale, eps;
};

template <Form kForm, int kPack, int kThreads, class E>
__global__ void __launch_bounds__(kThreads) gate(ForwardArgs<E> a) {
  const int64_t t = blockIdx.x / a.groups, group = blockIdx.x % a.groups, c0 = group * a.columns;
  const E *xs = a.x[t] + c0, *zs = a.z[t] + c0;
  E* to = a.y[t] + c0;
  const float* ws = a.w + c0;
  float r = 1;
  if constexpr (kForm != Form::Gate) {
    float sum = 0;
    each_pack<kPack, kThreads>(a.columns, [&](int64_t c, auto n) {
      float x[n];
      [[maybe_unused]] float z[n];
      load(xs + c, x);
      if constexpr (kForm == Form::GateThenNorm) load(zs + c, z);
#pragma unroll
      for (int i = 0; i < n; ++i) {
        if constexpr (kForm == Form::GateThenNorm) x[i] *= silu<E>(a.z_scale * z[i]);
        sum += x[i] * x[i];
      }
    });
    sum = block_sum<kThreads>(sum);
    r = 1.0f / sqrtf(sum / static_cast<float>(a.columns) + a.eps);
    if (threadIdx.x == 0) a.rstd[blockIdx.x] = r;
  }
  each_pack<kPack, kThreads>(a.columns, [&](int64_t c, auto n) {
    float x[n], z[n];
    [[maybe_unused]] float w[n];
    load(xs + c, x), load(zs + c, z);
    if constexpr (kForm != Form::Gate) load(ws + c, w);
#pragma unroll
    for (int i = 0; i < n; ++i) {
      x[i] *= silu<E>(a.z_scale * z[i]);
      if constexpr (kForm != Form::Gate) x[i] *= r * w[i];
      x[i] *= a.out_scale;
    }
    store(to + c, x);
  });
}

template <class E>
struct BackwardArgs {
  Rows<const E> x, z, dy;
  const float *w, *rstd;
  Rows<E> dx, dz;
  float* partial;  // [runs, groups * columns]
  int64_t rows, rows_each, groups, columns;
  float z_scale, out_scale;
};

// What a channel of a token is in the gradient: s the norm's input and g the gradient of its
// output, before w.
template <Form kForm, class E>
struct Channel {
  float a, sigma, gate, d, s, g;
  __device__ Channel(const BackwardArgs<E>& args, float x, float z, float dy) {
    a = args.z_scale * z, sigma = sigmoid<E>(a), gate = a * sigma, d = args.out_scale * dy;
    s = kForm == Form::GateThenNorm ? x * gate : x;
    g = kForm == Form::NormThenGate ? d * gate : d;
  }
};

// A block owns rows_each rows of a group; a thread has the same columns of each, whose dw it sums.
template <Form kForm, int kPack, int kThreads, class E>
__global__ void __launch_bounds__(kThreads) gate_gradient(BackwardArgs<E> a) {
  extern __shared__ __align__(16) float shared[];
  constexpr bool kNorm = kForm != Form::Gate;
  const int64_t run = blockIdx.x / a.groups, group = blockIdx.x % a.groups, c0 = group * a.columns;
  const float* ws = a.w + c0;
  float* partial = a.partial + run * a.groups * a.columns + c0;
  float* dw = a.columns <= kSharedSums ? shared : partial;
  if constexpr (kNorm) {
    each_pack<1, kThreads>(a.columns, [&](int64_t c, auto) { dw[c] = 0; });
    __syncthreads();
  }
  const int64_t begin = run * a.rows_each, end = min(begin + a.rows_each, a.rows);
  for (int64_t t = begin; t < end; ++t) {
    const E *xs = a.x[t] + c0, *zs = a.z[t] + c0, *dys = a.dy[t] + c0;
    E *dx = a.dx[t] + c0, *dz = a.dz[t] + c0;
    float r = 1, k = 0;
    if constexpr (kNorm) {
      float dot = 0;
      each_pack<kPack, kThreads>(a.columns, [&](int64_t c, auto n) {
        float x[n], z[n], dy[n], w[n];
        load(xs + c, x), load(zs + c, z), load(dys + c, dy), load(ws + c, w);
#pragma unroll
        for (int i = 0; i < n; ++i) {
          const Channel<kForm, E> h(a, x[i], z[i], dy[i]);
          dot += h.g * w[i] * h.s;
        }
      });
      dot = block_sum<kThreads>(dot);
      r = a.rstd[t * a.groups + group], k = r * r * dot / static_cast<float>(a.columns);
    }
    each_pack<kPack, kThreads>(a.columns, [&](int64_t c, auto n) {
      float x[n], z[n], dy[n];
      [[maybe_unused]] float w[n], sum[n];
      load(xs + c, x), load(zs + c, z), load(dys + c, dy);
      if constexpr (kNorm) load(ws + c, w), load(dw + c, sum);
#pragma unroll
      for (int i = 0; i < n; ++i) {
        const Channel<kForm, E> h(a, x[i], z[i], dy[i]);
        const float slope = silu_slope(h.a, h.sigma) * a.z_scale;
        float ds = h.d;  // gradient of s
        if constexpr (kNorm) {
          sum[i] += h.g * h.s * r;
          ds = r * (h.g * w[i] - h.s * k);
        }
        if constexpr (kForm == Form::NormThenGate) {
          z[i] = h.d * w[i] * h.s * r * slope;
          x[i] = ds;
        } else {
          z[i] = ds * x[i] * slope;
          x[i] = ds * h.gate;
        }
      }
      if constexpr (kNorm) store(dw + c, sum);
      store(dx + c, x), store(dz + c, z);
    });
  }
  if constexpr (kNorm) {
    if (dw == partial) return;
    __syncthreads();
    each_pack<1, kThreads>(a.columns, [&](int64_t c, auto) { partial[c] = dw[c]; });
  }
}

// ---- launchers ----------------------------------------------------------------------------------

// f(integral_constant<Form>) with the columns that a block takes, and how many such runs a row has.
template <class F>
void with_form(const ops::GatedNormInputs& in, F&& f) {
  using std::integral_constant;
  const int64_t C = in.x.cols();
  if (!in.w) f(integral_constant<Form, Form::Gate>{}, int64_t{1}, C);
  else if (in.norm_before_gate)
    f(integral_constant<Form, Form::NormThenGate>{}, in.groups, C / in.groups);
  else f(integral_constant<Form, Form::GateThenNorm>{}, in.groups, C / in.groups);
}

bool packs(const ops::GatedNormInputs& in, int64_t groups, int64_t columns) {
  return aligned(in.x) && aligned(in.z) && (!in.w || aligned(*in.w)) &&
         (groups == 1 || columns % 8 == 0);
}

template <class E>
void forward(const ops::GatedNorm& op, Stream stream) {
  const ops::GatedNormInputs& in = op.in;
  with_form(in, [&](auto form, int64_t groups, int64_t columns) {
    const ForwardArgs<E> args{rows_of<const E>(in.x),
                              rows_of<const E>(in.z),
                              in.w ? ptr<const float>(*in.w) : nullptr,
                              rows_of<E>(op.y),
                              op.rstd ? ptr<float>(*op.rstd) : nullptr,
                              groups,
                              columns,
                              in.z_scale,
                              in.out_scale,
                              op.eps};
    const auto blocks = static_cast<unsigned>(in.x.rows() * groups);
    with_row_shape(columns, packs(in, groups, columns) && aligned(op.y), [&](auto n, auto threads) {
      constexpr Form kForm = form;
      constexpr int kPack = n, kThreads = threads;
      gate<kForm, kPack, kThreads><<<blocks, kThreads, 0, stream_of(stream)>>>(args);
      launched("gated_norm");
    });
  });
}

int64_t partial_rows(const ops::GatedNormGrad& op) {
  return blocks_of(op.in.x.rows(), rows_per_block(op.in.x.rows()));
}

template <class E>
void backward(const ops::GatedNormGrad& op, float* partial, Stream stream) {
  const ops::GatedNormInputs& in = op.in;
  const int64_t T = in.x.rows();
  with_form(in, [&](auto form, int64_t groups, int64_t columns) {
    const BackwardArgs<E> args{rows_of<const E>(in.x),
                               rows_of<const E>(in.z),
                               rows_of<const E>(op.dy),
                               in.w ? ptr<const float>(*in.w) : nullptr,
                               op.rstd ? ptr<const float>(*op.rstd) : nullptr,
                               rows_of<E>(op.dx),
                               rows_of<E>(op.dz),
                               partial,
                               T,
                               rows_per_block(T),
                               groups,
                               columns,
                               in.z_scale,
                               in.out_scale};
    const bool wide = packs(in, groups, columns) && aligned(op.dy) && aligned(op.dx) &&
                      aligned(op.dz) && (!in.w || in.x.cols() % 4 == 0);
    const auto blocks = static_cast<unsigned>(partial_rows(op) * groups);
    with_row_shape(columns, wide, [&](auto n, auto threads) {
      constexpr Form kForm = form;
      constexpr int kPack = n, kThreads = threads;
      const int64_t shared = kForm == Form::Gate ? 0 : shared_sums(columns);
      gate_gradient<kForm, kPack, kThreads><<<blocks, kThreads, shared, stream_of(stream)>>>(args);
      launched("gated_norm_grad");
    });
  });
}

}  // namespace

template <>
void need(const ops::GatedNorm&, WorkspaceNeed&) {}

template <>
void run(const ops::GatedNorm& op, Stream stream) {
  if (op.in.x.rows() == 0 || op.in.x.cols() == 0) return;
  with_float(op.in.x.dtype, [&](auto e) { forward<decltype(e)>(op, stream); });
}

template <>
void need(const ops::GatedNormGrad& op, WorkspaceNeed& n) {
  if (op.in.w)
    need_workspace(n, 0, partial_rows(op) * op.in.x.cols() * static_cast<int64_t>(sizeof(float)));
}

template <>
void run(const ops::GatedNormGrad& op, Stream stream) {
  const int64_t C = op.in.x.cols(), rows = partial_rows(op);
  float* partial = op.in.w ? workspace<float>(stream, 0, rows * C) : nullptr;
  if (rows > 0 && C > 0)
    with_float(op.in.x.dtype, [&](auto e) { backward<decltype(e)>(op, partial, stream); });
  if (op.in.w)
    fold(partial, rows, C, PutGradient{ptr<float>(*op.dw), op.grad == Grad::Accumulate}, stream);
}

}  // namespace ft::cuda
