#include "models/layers/mamba2.h"

#include "models/layers/declare.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace ft {

namespace {
template <class T, class From>
std::optional<T> if_present(const Param& param, const From& value) {
  return param.present() ? std::optional<T>(T(value)) : std::nullopt;
}

// [C, k]; storage one tap wide is a vector.
Tensor taps(const Param& conv, const Tensor& storage) {
  return storage.view({conv.rows, conv.cols});
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

ops::Conv1dInputs Mamba2::conv_inputs(const Views& s, const Tensor& docs, int64_t sequences) const {
  const int64_t of_b = groups * state;
  return {.x = s.xbc,
          .w = taps(conv, conv.value),
          .docs = docs,
          .bias = if_present<In>(conv_bias, conv_bias.value),
          .sections = {inner(), of_b, of_b},
          .scales = xbc_scales,
          .sequences = sequences};
}

ops::SsdInputs Mamba2::ssd_inputs(const Views& s, const Tensor& docs, int64_t sequences) const {
  const int64_t b = inner(), e = b + groups * state;
  return {.x = s.conv.columns(0, b),
          .b = s.conv.columns(b, e),
          .c = s.conv.columns(e, xbc()),
          .dt = s.dt,
          .dt_bias = dt_bias.value,
          .a_log = a_log.value,
          .d = d.value,
          .docs = docs,
          .limits = dt_limits,
          .sequences = sequences,
          .groups = groups,
          .state = state,
          .chunk = chunk};
}

ops::GatedNormInputs Mamba2::gate_inputs(const Views& s) const {
  return {.x = s.y,
          .z = s.z,
          .w = if_present<In>(norm, norm.value),
          .z_scale = z_scale,
          .out_scale = out_scale,
          .groups = groups,
          .norm_before_gate = norm_before_gate};
}

void Mamba2::forward(Ctx& c, const Views& s, const Tensor& docs, int64_t sequences,
                     std::optional<Tensor> dt_peak, Cache* cache) const {
  ops::Conv1d convolve{.in = conv_inputs(s, docs, sequences), .y = s.conv};
  ops::Ssd scan{.in = ssd_inputs(s, docs, sequences), .y = s.y, .states = s.states};
  if (cache) {
    if (conv.cols > 1) convolve.in.history = cache->history;
    scan.initial_state = cache->state, scan.final_state = cache->next_state;
  }
  c(convolve);
  c(scan);
  if (dt_peak)
    c(ops::DtPeak{.peak = *dt_peak, .dt = s.dt, .dt_bias = dt_bias.value, .limits = dt_limits});
  c(ops::GatedNorm{
      .in = gate_inputs(s), .y = s.out, .rstd = if_present<Out>(norm, s.rstd), .eps = eps});
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
  const int64_t b = inner(), e = b + groups * state, T = s.y.tensor.rows();
  const Temp dy = c.temp(s.y.tensor.dtype, {T, b});
  c(ops::GatedNormGrad{.in = gate_inputs(s),
                       .dy = dout,
                       .dx = dy,
                       .dz = dz,
                       .dw = if_present<Out>(norm, norm.grad),
                       .rstd = if_present<In>(norm, s.rstd),
                       .grad = c.grad});
  const Temp dconv = c.temp(s.conv.tensor.dtype, {T, xbc()});
  c(ops::SsdGrad{.in = ssd_inputs(s, docs, sequences),
                 .states = s.states,
                 .dy = dy,
                 .dx = dconv.get().columns(0, b),
                 .db = dconv.get().columns(b, e),
                 .dc = dconv.get().columns(e, xbc()),
                 .ddt = ddt,
                 .ddt_bias = dt_bias.grad,
                 .da_log = a_log.grad,
                 .dd = d.grad,
                 .grad = c.grad});
  c(ops::Conv1dGrad{.in = conv_inputs(s, docs, sequences),
                    .dy = dconv,
                    .dx = dxbc,
                    .dw = taps(conv, conv.grad),
                    .dbias = if_present<Out>(conv_bias, conv_bias.grad),
                    .grad = c.grad});
}

}  // namespace ft
