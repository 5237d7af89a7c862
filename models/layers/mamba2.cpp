#include "models/layers/mamba2.h"

#include "models/layers/declare.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace ft {

namespace {
template <class T>
std::optional<T> if_present(const Param& param, const Tensor& value) {
  return param.present() ? std::optional<T>(T(value)) : std::nullopt;
}
}  // namespace

void Mamba2::declare(const std::string& name, int64_t taps, const Start& start) {
  const auto vector = [&](const char* which, int64_t size, Init init, ParamClass kind) {
    return vector_param(name + which, size, init, {kind, "mamba"});
  };
  // torch's Conv1d: kaiming_uniform(sqrt 5), fan-in `taps`
  const double bound = 1 / std::sqrt(static_cast<double>(taps));
  const Init uniform{Init::Kind::Uniform, -bound, bound};
  const int64_t C = xbc();
  conv = {.rows = C, .cols = taps, .always_fp32 = true};
  conv.pieces.push_back({.name = name + "conv1d.weight",
                         .shape = {C, 1, taps},
                         .rows = C,
                         .cols = taps,
                         .init = uniform,
                         .kind = ParamClass::Conv,
                         .part = "mamba",
                         .decay = false});
  if (start.conv_bias) conv_bias = vector("conv1d.bias", C, uniform, ParamClass::Bias);
  dt_bias = vector("dt_bias", heads, start.dt_bias, ParamClass::DtBias);
  a_log = vector("A_log", heads, start.a_log, ParamClass::ALog);
  d = vector("D", heads, {Init::Kind::One}, ParamClass::D);
  if (start.norm) norm = vector("norm.weight", inner(), {Init::Kind::One}, ParamClass::Norm);
}

Mamba2::Saved Mamba2::saved(SlotBank& bank, Dtype compute, const Extent& e) const {
  const int64_t T = e.tokens(), chunks = e.sequences * ((e.length + chunk - 1) / chunk);
  Saved s;
  s.conv = bank.slot("conv", Fate::Cheap, compute, {T, xbc()});
  s.y = bank.slot("y", Fate::Block, compute, {T, inner()});
  s.states = bank.slot("states", Fate::Block, Dtype::F32, {chunks, inner() * state});
  s.rstd = bank.slot("gate_rstd", Fate::Block, Dtype::F32, {T, groups});
  return s;
}

Mamba2::Cache Mamba2::make_cache(Memory& memory, Dtype compute) const {
  return {.history = memory.make("cache", compute, {std::max<int64_t>(conv.cols - 1, 1), xbc()}),
          .state = memory.make("cache", Dtype::F32, {1, inner() * state}),
          .next_state = memory.make("cache", Dtype::F32, {1, inner() * state})};
}

void Mamba2::forward(Ctx& c, const Views& s, const Tensor& docs, int64_t sequences,
                     const Tensor& dt_peak, Cache* cache) const {
  const int64_t b = inner(), e = b + groups * state;
  const Slot x = s.conv.columns(0, b), bb = s.conv.columns(b, e), cc = s.conv.columns(e, xbc());
  c(ops::Conv1d{.y = s.conv,
                .x = s.xbc,
                .w = conv.value,
                .docs = docs,
                .bias = if_present<In>(conv_bias, conv_bias.value),
                .history = cache ? std::optional<In>(cache->history) : std::nullopt,
                .sections = sections(),
                .scales = xbc_scales,
                .sequences = sequences});
  c(ops::Ssd{.y = s.y,
             .states = s.states,
             .x = x,
             .b = bb,
             .c = cc,
             .dt = s.dt,
             .dt_bias = dt_bias.value,
             .a_log = a_log.value,
             .d = d.value,
             .docs = docs,
             .initial_state = cache ? std::optional<In>(cache->state) : std::nullopt,
             .final_state = cache ? std::optional<Out>(cache->next_state) : std::nullopt,
             .dt_scale = dt_scale,
             .dt_min = dt_min,
             .dt_max = dt_max,
             .sequences = sequences,
             .groups = groups,
             .state = state,
             .chunk = chunk});
  if (dt_peak.dims)
    c(ops::DtPeak{.peak = dt_peak,
                  .dt = s.dt,
                  .dt_bias = dt_bias.value,
                  .dt_scale = dt_scale,
                  .dt_min = dt_min,
                  .dt_max = dt_max});
  c(ops::GatedNorm{.y = s.out,
                   .x = s.y,
                   .z = s.z,
                   .rstd = norm.present() ? std::optional<Out>(s.rstd) : std::nullopt,
                   .w = if_present<In>(norm, norm.value),
                   .z_scale = z_scale,
                   .out_scale = out_scale,
                   .eps = eps,
                   .groups = groups,
                   .norm_before_gate = norm_before_gate});
  if (cache) keep_history(c, s, *cache);
}

// One sequence: the history becomes the last k-1 rows of [history, this call's rows].
void Mamba2::keep_history(Ctx& c, const Views& s, Cache& cache) const {
  const Tensor& rows = s.xbc.tensor;
  const int64_t keep = conv.cols - 1, from_old = std::max<int64_t>(0, keep - rows.rows());
  for (int64_t i = 0; i < from_old; ++i)
    c(ops::Copy{.y = cache.history.row_range(i, i + 1),
                .x = cache.history.row_range(i + rows.rows(), i + rows.rows() + 1)});
  if (keep > from_old)
    c(ops::Copy{.y = cache.history.row_range(from_old, keep),
                .x = rows.row_range(rows.rows() - (keep - from_old), rows.rows())});
  std::swap(cache.state, cache.next_state);
}

void Mamba2::backward(Ctx& c, const Views& s, const Tensor& docs, int64_t sequences,
                      const Tensor& dout, const Tensor& dz, const Tensor& dxbc,
                      const Tensor& ddt) const {
  const int64_t b = inner(), e = b + groups * state;
  const Tensor conv_out = s.conv.tensor;
  const Temp dy = c.temp(s.y.tensor.dtype, {s.y.tensor.rows(), b});
  c(ops::GatedNormGrad{.dx = dy,
                       .dz = dz,
                       .dy = dout,
                       .x = s.y,
                       .z = s.z,
                       .dw = if_present<Out>(norm, norm.grad),
                       .rstd = if_present<In>(norm, s.rstd),
                       .w = if_present<In>(norm, norm.value),
                       .z_scale = z_scale,
                       .out_scale = out_scale,
                       .groups = groups,
                       .norm_before_gate = norm_before_gate,
                       .grad = c.grad});
  const Temp dconv = c.temp(conv_out.dtype, {conv_out.rows(), xbc()});
  c(ops::SsdGrad{.dx = dconv.get().columns(0, b),
                 .db = dconv.get().columns(b, e),
                 .dc = dconv.get().columns(e, xbc()),
                 .ddt = ddt,
                 .ddt_bias = dt_bias.grad,
                 .da_log = a_log.grad,
                 .dd = d.grad,
                 .dy = dy,
                 .x = conv_out.columns(0, b),
                 .b = conv_out.columns(b, e),
                 .c = conv_out.columns(e, xbc()),
                 .dt = s.dt,
                 .dt_bias = dt_bias.value,
                 .a_log = a_log.value,
                 .d = d.value,
                 .states = s.states,
                 .docs = docs,
                 .dt_scale = dt_scale,
                 .dt_min = dt_min,
                 .dt_max = dt_max,
                 .sequences = sequences,
                 .groups = groups,
                 .state = state,
                 .chunk = chunk,
                 .grad = c.grad});
  c(ops::Conv1dGrad{.dx = dxbc,
                    .dw = conv.grad,
                    .dy = dconv,
                    .x = s.xbc,
                    .w = conv.value,
                    .docs = docs,
                    .dbias = if_present<Out>(conv_bias, conv_bias.grad),
                    .bias = if_present<In>(conv_bias, conv_bias.value),
                    .sections = sections(),
                    .scales = xbc_scales,
                    .sequences = sequences,
                    .grad = c.grad});
}

}  // namespace ft
