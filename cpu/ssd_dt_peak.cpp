// The largest dt of a pass. softplus and the limits do not fall anywhere, so they are applied to
// each head's largest argument.
#include "cpu/rows.h"
#include "cpu/ssd_common.h"

#include <vector>

namespace ft::cpu {

namespace {

// peaks[h] = max over rows [begin, end) of scale * dt[t, h]; NaN wins.
template <class E>
void rows_peak(const ops::DtPeak& op, int64_t begin, int64_t end, float* peaks) {
  const int64_t heads = op.dt_bias.size();
  for (int64_t t = begin; t < end; ++t) {
    const E* raw = row<E>(op.dt, t);
    for (int64_t h = 0; h < heads; ++h) {
      const float value = op.limits.scale * to_float(raw[h]);
      peaks[h] = value > peaks[h] || std::isnan(value) ? value : peaks[h];
    }
  }
}

}  // namespace

template <>
void need(const ops::DtPeak&, WorkspaceNeed&) {}

template <>
void run(const ops::DtPeak& op, Stream) {
  const int64_t tokens = op.dt.rows(), heads = op.dt_bias.size();
  const int64_t blocks = blocks_of(tokens, kReduceBlock);
  std::vector<float> peaks(static_cast<size_t>(blocks * heads),
                           -std::numeric_limits<float>::infinity());
  with_type(op.dt.dtype, [&](auto e) {
    for_blocks(tokens, [&](int64_t block, int64_t begin, int64_t end) {
      rows_peak<decltype(e)>(op, begin, end, peaks.data() + block * heads);
    });
  });
  float& peak = *op.peak.f32();
  for (int64_t i = 0; i < blocks * heads; ++i) {
    const float argument = peaks[static_cast<size_t>(i)] + op.dt_bias.f32()[i % heads];
    const float soft = softplus(argument);
    const float dt =
        std::isnan(soft) ? soft : std::min(std::max(soft, op.limits.min), op.limits.max);
    if (dt > peak || std::isnan(dt)) peak = dt;
  }
}

}  // namespace ft::cpu
