#include "models/falcon_h1/block.h"

namespace ft {

Block::Saved Block::saved(SlotBank& bank, const Extent& e) const {
  const int64_t T = e.tokens(), d = hidden_;
  const Dtype act = precision_.compute;
  Saved s;
  if (mixers()) {
    s.h = bank.slot("h", Fate::Cheap, act, {T, d});
    s.rstd = bank.slot("rstd", Fate::Cheap, Dtype::F32, {T});
    s.p = bank.slot("p", Fate::Block, act, {T, cols_.padded});
    s.mix = bank.slot("mix", Fate::Block, act, {T, out_proj_.in()});
    s.r = bank.slot("r", Fate::Block, precision_.residual, {T, d});
  }
  if (mamba()) {
    const int64_t chunks = e.sequences * ((e.length + mamba_.chunk - 1) / mamba_.chunk);
    s.conv = bank.slot("conv", Fate::Cheap, act, {T, mamba_.xbc()});
    s.y = bank.slot("y", Fate::Block, act, {T, mamba_.inner()});
    s.states =
        bank.slot("states", Fate::Block, Dtype::F32, {chunks, mamba_.inner() * mamba_.state});
    s.gate_rstd = bank.slot("gate_rstd", Fate::Block, Dtype::F32, {T, mamba_.groups});
  }
  if (attention()) s.lse = bank.slot("lse", Fate::Block, Dtype::F32, {attention_.heads, T});
  s.h2 = bank.slot("h2", Fate::Cheap, act, {T, d});
  s.rstd2 = bank.slot("rstd2", Fate::Cheap, Dtype::F32, {T});
  s.gate_up = bank.slot("gate_up", Fate::Block, act, {T, 2 * intermediate_});
  s.act = bank.slot("act", Fate::Cheap, act, {T, intermediate_});
  bank.rewind();
  return s;
}

Attention::Views Block::attention_views(const Saved& s) const {
  return {.q = s.p.columns(cols_.q, cols_.k),
          .k = s.p.columns(cols_.k, cols_.v),
          .v = s.p.columns(cols_.v, cols_.v + attention_.kv_cols()),
          .o = s.mix.columns(0, attention_.q_cols()),
          .lse = s.lse};
}

Mamba2::Views Block::mamba_views(const Saved& s) const {
  return {.z = s.p.columns(cols_.z, cols_.xbc),
          .xbc = s.p.columns(cols_.xbc, cols_.xbc + mamba_.xbc()),
          .dt = s.p.columns(cols_.dt, cols_.end),
          .conv = s.conv,
          .y = s.y,
          .states = s.states,
          .rstd = s.gate_rstd,
          .out = s.mix.columns(out_proj_.in() - mamba_.inner(), out_proj_.in())};
}

ops::SwiGluInputs Block::mlp_inputs(const Saved& s) const {
  return {.gate = s.gate_up.columns(0, intermediate_),
          .up = s.gate_up.columns(intermediate_, 2 * intermediate_),
          .gate_scale = gate_scale_};
}

void Block::forward(Ctx& c, const Saved& s, const BlockInputs& in, const Tensor& x, const Slot& y,
                    Cache* cache) const {
  c.where = label_;
  Tensor r = x;
  if (mixers()) {
    const int64_t B = in.extent.sequences;
    c(ops::RmsNorm{.in = {.x = x, .w = norm_.value}, .y = s.h, .rstd = s.rstd, .eps = eps_});
    in_proj_.forward(c, s.p, s.h);
    c.fork(
        [&] {
          if (attention())
            attention_.forward(c, attention_views(s), in.rope, in.docs, B,
                               cache ? &cache->attention : nullptr);
        },
        [&] {
          if (mamba())
            mamba_.forward(c, mamba_views(s), in.docs, B, in.dt_peak,
                           cache ? &cache->mamba : nullptr);
        });
    out_proj_.forward(c, s.r, s.mix, 1, x);
    r = s.r.tensor;
  }
  c(ops::RmsNorm{.in = {.x = r, .w = ff_norm_.value}, .y = s.h2, .rstd = s.rstd2, .eps = eps_});
  gate_up_.forward(c, s.gate_up, s.h2);
  c(ops::SwiGlu{.in = mlp_inputs(s), .y = s.act});
  down_.forward(c, y, s.act, down_scale_, r);
}

namespace {

// The residual stream's gradient as an operand of matrix products: itself, or a copy in the compute
// dtype.
struct Operand {
  std::optional<Temp> copy;
  Tensor tensor;
  Operand(Ctx& c, const Tensor& dy, Dtype compute) : tensor(dy) {
    if (dy.dtype == compute) return;
    copy.emplace(c.temp(compute, {dy.rows(), dy.cols()}));
    tensor = copy->get();
    c(ops::Copy{.y = tensor, .x = dy});
  }
};

}  // namespace

void Block::backward(Ctx& c, const Saved& s, const BlockInputs& in, const Tensor& x,
                     const Tensor& dy) const {
  c.where = label_;
  const int64_t T = in.extent.tokens(), i = intermediate_;
  const Dtype act = precision_.compute;
  {
    const Operand g(c, dy, act);
    const Temp dgate_up = c.temp(act, {T, 2 * i});
    {
      const Temp dact = c.temp(act, {T, i});
      down_.backward_input(c, dact, g.tensor, down_scale_);
      down_.backward_weight(c, g.tensor, s.act, down_scale_);
      c(ops::SwiGluGrad{.in = mlp_inputs(s),
                        .dy = dact,
                        .dgate = dgate_up.get().columns(0, i),
                        .dup = dgate_up.get().columns(i, 2 * i)});
    }
    const Temp dh = c.temp(act, {T, hidden_});
    gate_up_.backward_input(c, dh, dgate_up);
    gate_up_.backward_weight(c, dgate_up, s.h2);
    c(ops::RmsNormGrad{.in = {.x = mixers() ? s.r.tensor : x, .w = ff_norm_.value},
                       .rstd = s.rstd2,
                       .dy = dh,
                       .dx = dy,
                       .dw = ff_norm_.grad,
                       .dresidual = dy,
                       .grad = c.grad});
  }
  if (!mixers()) return;
  const int64_t B = in.extent.sequences, a = attention() ? attention_.q_cols() : 0;
  const Temp dp = c.temp(act, {T, cols_.padded});
  {
    const Operand g(c, dy, act);
    const Temp dmix = c.temp(act, {T, out_proj_.in()});
    out_proj_.backward_input(c, dmix, g.tensor);
    out_proj_.backward_weight(c, g.tensor, s.mix);
    const Tensor d = dp.get(), m = dmix.get();
    if (cols_.padded > cols_.end) c(ops::Fill{.y = d.columns(cols_.end, cols_.padded)});
    c.fork(
        [&] {
          if (attention())
            attention_.backward(c, attention_views(s), in.rope, in.docs, B, m.columns(0, a),
                                d.columns(cols_.q, cols_.k), d.columns(cols_.k, cols_.v),
                                d.columns(cols_.v, cols_.v + attention_.kv_cols()));
        },
        [&] {
          if (mamba())
            mamba_.backward(c, mamba_views(s), in.docs, B, m.columns(a, m.cols()),
                            d.columns(cols_.z, cols_.xbc),
                            d.columns(cols_.xbc, cols_.xbc + mamba_.xbc()),
                            d.columns(cols_.dt, cols_.end));
        });
  }
  const Temp dh = c.temp(act, {T, hidden_});
  in_proj_.backward_input(c, dh, dp);
  in_proj_.backward_weight(c, dp, s.h);
  c(ops::RmsNormGrad{.in = {.x = x, .w = norm_.value},
                     .rstd = s.rstd,
                     .dy = dh,
                     .dx = dy,
                     .dw = norm_.grad,
                     .dresidual = dy,
                     .grad = c.grad});
}

}  // namespace ft
