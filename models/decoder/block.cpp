#include "models/decoder/block.h"

namespace ft {

Block::Saved Block::saved(SlotBank& bank, const Extent& e) const {
  const int64_t T = e.tokens(), d = hidden_;
  const Dtype act = precision_.compute;
  Saved s;
  if (mixers()) {
    s.norm = norm_.saved(bank, "", act, T);
    s.p = bank.slot("p", Fate::Block, act, {T, cols_.padded});
    s.mix = bank.slot("mix", Fate::Block, act, {T, out_proj_.in()});
    s.r = bank.slot("r", Fate::Block, precision_.residual, {T, d});
  }
  if (mamba()) s.mamba = mamba_.saved(bank, act, e);
  if (attention()) s.attention = attention_.saved(bank, T);
  s.ff_norm = ff_norm_.saved(bank, "2", act, T);
  s.mlp = mlp_.saved(bank, act, T);
  bank.rewind();
  return s;
}

Block::Cache Block::make_cache(Memory& memory, int64_t capacity) const {
  Cache cache;
  if (attention()) cache.attention = attention_.make_cache(memory, precision_.compute, capacity);
  if (mamba()) cache.mamba = mamba_.make_cache(memory, precision_.compute);
  return cache;
}

Attention::Views Block::attention_views(const Saved& s) const {
  return {.q = s.p.columns(cols_.q, cols_.k),
          .k = s.p.columns(cols_.k, cols_.v),
          .v = s.p.columns(cols_.v, cols_.v + attention_.kv_cols()),
          .o = s.mix.columns(0, attention_.q_cols()),
          .lse = s.attention.lse};
}

Mamba2::Views Block::mamba_views(const Saved& s) const {
  return {.z = s.p.columns(cols_.z, cols_.xbc),
          .xbc = s.p.columns(cols_.xbc, cols_.xbc + mamba_.xbc()),
          .dt = s.p.columns(cols_.dt, cols_.end),
          .conv = s.mamba.conv,
          .y = s.mamba.y,
          .states = s.mamba.states,
          .rstd = s.mamba.rstd,
          .out = s.mix.columns(out_proj_.in() - mamba_.inner(), out_proj_.in())};
}

void Block::forward(Ctx& c, const Saved& s, const BlockInputs& in, const Tensor& x, const Slot& y,
                    Cache* cache) const {
  c.where = label_;
  Tensor r = x;
  if (mixers()) {
    const int64_t B = in.extent.sequences;
    norm_.forward(c, s.norm, x);
    in_proj_.forward(c, s.p, s.norm.y);
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
  ff_norm_.forward(c, s.ff_norm, r);
  mlp_.forward(c, s.mlp, s.ff_norm.y.tensor, y, r);
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
  {
    const Operand g(c, dy, precision_.compute);
    const Temp dh = mlp_.backward(c, s.mlp, s.ff_norm.y.tensor, g.tensor);
    ff_norm_.backward(c, s.ff_norm.rstd.tensor, mixers() ? s.r.tensor : x, dh, dy, dy);
  }
  if (mixers()) mixers_backward(c, s, in, x, dy);
}

void Block::mixers_backward(Ctx& c, const Saved& s, const BlockInputs& in, const Tensor& x,
                            const Tensor& dy) const {
  const Dtype act = precision_.compute;
  const int64_t T = in.extent.tokens(), B = in.extent.sequences;
  const int64_t a = attention() ? attention_.q_cols() : 0;
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
  in_proj_.backward_weight(c, dp, s.norm.y);
  norm_.backward(c, s.norm.rstd.tensor, x, dh, dy, dy);
}

}  // namespace ft
