// The largest dt of a pass:  peak = max(peak, clamp(softplus(scale * raw + bias), min, max))
// NaN wins.
// dt and peak are at least 0, where the bits of floats grow with their values; those of NaN are
// larger than those of infinity. So the order of the maximum does not matter.
#include "cuda/ssd_common.h"

namespace ft::cuda {

namespace {

// -------------------------------------------------------------------------------------------------
// Kernels
// -------------------------------------------------------------------------------------------------

constexpr int kRowThreads = 8;

// A warp looks at 32 heads of a token.
template <class E>
__global__ void __launch_bounds__(kWarp* kRowThreads)
    dt_peak(Rows<const E> raw, const float* bias, ops::DtLimits limits, int64_t tokens,
            int64_t heads, float* peak) {
  unsigned most = 0;
  for (int64_t t = static_cast<int64_t>(blockIdx.x) * kRowThreads + threadIdx.y; t < tokens;
       t += static_cast<int64_t>(gridDim.x) * kRowThreads)
    for (int64_t h = threadIdx.x; h < heads; h += kWarp) {
      const float dt =
          ssd_limited(ssd_softplus(limits.scale * to_float(raw[t][h]) + bias[h]), limits);
      most = max(most, isnan(dt) ? 0x7fffffffu : __float_as_uint(dt));
    }
  most = __reduce_max_sync(~0u, most);
  if (threadIdx.x == 0) atomicMax(reinterpret_cast<unsigned*>(peak), most);
}

}  // namespace

// -------------------------------------------------------------------------------------------------
// Launchers
// -------------------------------------------------------------------------------------------------

template <>
void need(const ops::DtPeak&, WorkspaceNeed&) {}

template <>
void run(const ops::DtPeak& op, Stream stream) {
  with_float(op.dt.dtype, [&](auto e) {
    using E = decltype(e);
    const int64_t tokens = op.dt.rows(), heads = op.dt_bias.size();
    dt_peak<E>
        <<<grid_for(tokens, kRowThreads * 4), dim3(kWarp, kRowThreads), 0, stream_of(stream)>>>(
            rows_of<const E>(op.dt), ptr<const float>(op.dt_bias), op.limits, tokens, heads,
            ptr<float>(op.peak));
    launched("dt_peak");
  });
}

}  // namespace ft::cuda
