#include "models/decoder/model.h"

#include "core/heartbeat.h"
#include "models/layers/declare.h"

#include <algorithm>

namespace ft {

namespace {
// Of one chunk of the head: a CPU's caches want few rows, a GPU's matrix products many.
struct Chunk {
  int64_t elements, least_rows;
};
constexpr Chunk kCpuChunk{1 << 23, 64}, kGpuChunk{1 << 27, 2048};

// "model.final_layernorm" of "model.final_layernorm.weight"
std::string module_of(const Param& param) {
  const std::string& name = param.pieces[0].name;
  return name.substr(0, name.rfind('.'));
}
}  // namespace

Model::Model(const ModelConfig& config, Precision precision, const Stage& stage)
    : config_(config),
      precision_(precision),
      stage_(stage),
      pattern_(expand_pattern(config.layer_pattern, config.num_hidden_layers)),
      padded_vocab_(Layout::aligned(config.vocab_size, Layout::vocab_align)) {
  const int64_t V = config.vocab_size, d = config.hidden_size;
  const Init init{Init::Kind::Normal, config.initializer_range};
  const auto table = [&](const char* name, ParamClass kind, const char* part) {
    Param p{.rows = padded_vocab_, .cols = d};
    p.pieces.push_back(matrix(name, 0, 0, V, d, init, Cut::Out, {kind, part}));
    return p;
  };
  const bool tied = config.tie_word_embeddings;
  if (stage.embedding || (stage.head && tied))
    embed_ = table(kEmbeddingName, ParamClass::Embedding, "embedding");
  if (stage.head && !tied) head_ = table(kHeadName, ParamClass::Head, "head");
  if (stage.head) final_norm_.declare("model.final_layernorm.weight", d, config.rms_norm_eps);
  blocks_.reserve(static_cast<size_t>(stage.last - stage.first));
  for (int64_t l = stage.first; l < stage.last; ++l)
    blocks_.emplace_back(config_, precision_, l, pattern_[static_cast<size_t>(l)]);
}

void Model::visit(const std::function<void(Param&)>& f) {
  if (embed_.present()) f(embed_);
  for (Block& block : blocks_) block.visit(f);
  if (stage_.head) final_norm_.visit(f);
  if (head_.present()) f(head_);
}

void Model::plan(Memory& memory, const ModelPlan& plan) {
  plan_ = plan;
  const int64_t T = plan.largest.tokens(), d = config_.hidden_size;
  if (config_.num_attention_heads > 0)
    rope_ = memory.make("tables", Dtype::F32, {plan.positions, config_.head_dim});
  const Recompute policy = plan.training ? plan.recompute : Recompute::Full;
  for (int64_t s = 0; s < plan.in_flight; ++s) {
    SlotSet set;
    set.inputs = {memory.make("inputs", Dtype::I32, {T}), memory.make("inputs", Dtype::I32, {T}),
                  memory.make("inputs", Dtype::I32, {T})};
    for (size_t l = 0; l <= blocks_.size(); ++l)
      set.stream.push_back(memory.make("residual stream", precision_.residual, {T, d}));
    if (stage_.head) {
      set.final = memory.make("activations", precision_.compute, {T, d});
      set.rstd = memory.make("activations", Dtype::F32, {T});
    }
    for (const Block& block : blocks_) {
      set.banks.emplace_back(memory, shared_, policy);
      block.saved(set.banks.back(), plan.largest);
    }
    slots_.push_back(std::move(set));
  }
  shared_.allocate(memory);
  if (plan.training) {
    dstream_ = memory.make("activations", precision_.residual, {T, d});
    dt_peaks_ = memory.make("inputs", Dtype::F32, {static_cast<int64_t>(blocks_.size())});
  }
  losses_ = memory.make("inputs", Dtype::F32, {2, T});
  loss_sum_ = memory.make("inputs", Dtype::F64, {1});
  z_sum_ = memory.make("inputs", Dtype::F64, {1});
  inv_count_ = memory.make("inputs", Dtype::F32, {1});
}

void Model::prepare(Ctx& c) {
  if (config_.num_attention_heads > 0)
    c(ops::RopeTable{.table = rope_, .theta = config_.rope_theta});
}

MicroInputs Model::cut(const SlotSet& set, const Extent& e) const {
  const int64_t T = e.tokens();
  return {set.inputs.ids.row_range(0, T), set.inputs.labels.row_range(0, T),
          set.inputs.docs.row_range(0, T)};
}

BlockInputs Model::block_inputs(const SlotSet& set, const Extent& e) const {
  return {.extent = e, .docs = cut(set, e).docs, .rope = rope_};
}

void Model::forward(Ctx& c, int64_t slot, const Extent& e) {
  SlotSet& set = slots_[slot];
  const int64_t T = e.tokens();
  if (stage_.embedding) embed(c, set, e);
  BlockInputs in = block_inputs(set, e);
  for (size_t l = 0; l < blocks_.size(); ++l) {
    beat();
    const auto at = static_cast<int64_t>(l);
    if (plan_.training) in.dt_peak = dt_peaks_.row_range(at, at + 1);
    blocks_[l].forward(c, blocks_[l].saved(set.banks[l], e), in, set.stream[l].row_range(0, T),
                       {set.stream[l + 1].row_range(0, T), true});
  }
  if (stage_.head) final_norm(c, set, e);
}

void Model::embed(Ctx& c, const SlotSet& set, const Extent& e) const {
  c.where = "model.embed_tokens";
  c(ops::Embedding{.y = set.stream[0].row_range(0, e.tokens()),
                   .ids = cut(set, e).ids,
                   .weight = embed_.value,
                   .scale = static_cast<float>(config_.embedding_multiplier)});
}

void Model::final_norm(Ctx& c, const SlotSet& set, const Extent& e) {
  c.where = module_of(final_norm_.weight);
  const int64_t T = e.tokens();
  final_norm_.forward(c, {{set.final.row_range(0, T)}, {set.rstd.row_range(0, T)}},
                      set.stream.back().row_range(0, T));
}

void Model::for_chunks(Ctx& c, const SlotSet& set, const Extent& e,
                       const std::function<void(int64_t, int64_t, const Tensor&)>& f) {
  c.where = "lm_head";
  const Param& head = head_.present() ? head_ : embed_;
  const Chunk chunk = c.device.kind() == DeviceKind::Cuda ? kGpuChunk : kCpuChunk;
  const int64_t T = e.tokens(), rows = std::max(chunk.least_rows, chunk.elements / padded_vocab_);
  for (int64_t begin = 0; begin < T; begin += rows) {
    beat();
    const int64_t end = std::min(T, begin + rows);
    const Temp logits = c.temp(precision_.compute, {end - begin, padded_vocab_});
    c(ops::Gemm{
        .y = logits,
        .a = set.final.row_range(begin, end),
        .b = head.value,
        .alpha = static_cast<float>(config_.lm_head_multiplier),
        .share = static_cast<double>(config_.vocab_size) / static_cast<double>(padded_vocab_)});
    f(begin, end, logits);
  }
}

void Model::add_losses(Ctx& c, const Tensor& losses, Grad grad) {
  c(ops::Sum{.out = loss_sum_, .x = losses.row_range(0, 1), .grad = grad});
  c(ops::Sum{.out = z_sum_, .x = losses.row_range(1, 2), .grad = grad});
}

void Model::loss(Ctx& c, int64_t slot, const Extent& e, Grad grad) {
  const SlotSet& set = slots_[slot];
  const int64_t T = e.tokens();
  const Tensor losses(losses_.data, Dtype::F32, {2, T});
  const Tensor loss = losses.view({2 * T}).row_range(0, T),
               z = losses.view({2 * T}).row_range(T, 2 * T);
  for_chunks(c, set, e, [&](int64_t b, int64_t n, const Tensor& logits) {
    c(ops::CrossEntropy{.loss = loss.row_range(b, n),
                        .z = z.row_range(b, n),
                        .logits = logits,
                        .labels = set.inputs.labels.row_range(b, n),
                        .vocab = config_.vocab_size});
  });
  add_losses(c, losses, grad);
}

void Model::head_backward(Ctx& c, const SlotSet& set, const Extent& e) {
  const int64_t T = e.tokens();
  Param& head = head_.present() ? head_ : embed_;
  const Tensor losses(losses_.data, Dtype::F32, {2, T});
  const Tensor loss = losses.view({2 * T}).row_range(0, T),
               z = losses.view({2 * T}).row_range(T, 2 * T);
  const Temp dfinal = c.temp(precision_.compute, {T, config_.hidden_size});
  const float alpha = static_cast<float>(config_.lm_head_multiplier);
  Grad grad = c.grad;
  for_chunks(c, set, e, [&](int64_t b, int64_t n, const Tensor& logits) {
    c(ops::CrossEntropy{.loss = loss.row_range(b, n),
                        .z = z.row_range(b, n),
                        .logits = logits,
                        .labels = set.inputs.labels.row_range(b, n),
                        .vocab = config_.vocab_size,
                        .z_loss = plan_.z_loss,
                        .inv_count = inv_count_});
    c(ops::Gemm{.y = dfinal.get().row_range(b, n),
                .a = logits,
                .b = head.value,
                .trans_b = false,
                .alpha = alpha});
    c(ops::Gemm{.y = head.grad,
                .a = logits,
                .b = set.final.row_range(b, n),
                .trans_a = true,
                .trans_b = false,
                .alpha = alpha,
                .grad = grad});
    grad = Grad::Accumulate;
  });
  add_losses(c, losses, c.grad);
  c.where = module_of(final_norm_.weight);
  final_norm_.backward(c, set.rstd.row_range(0, T), set.stream.back().row_range(0, T), dfinal,
                       gradient(e));
}

void Model::backward(Ctx& c, int64_t slot, const Extent& e) {
  SlotSet& set = slots_[slot];
  const int64_t T = e.tokens();
  const Tensor dstream = gradient(e);
  if (stage_.head) head_backward(c, set, e);
  const BlockInputs in = block_inputs(set, e);
  for (size_t l = blocks_.size(); l-- > 0;) {
    beat();
    const Tensor x = set.stream[l].row_range(0, T);
    const Block::Saved saved = blocks_[l].saved(set.banks[l], e);
    if (plan_.recompute != Recompute::None) {
      c.replay = true;
      blocks_[l].forward(c, saved, in, x, {set.stream[l + 1].row_range(0, T), true});
      c.replay = false;
    }
    blocks_[l].backward(c, saved, in, x, dstream);
  }
  if (!stage_.embedding) return;
  c.where = "model.embed_tokens";
  c(ops::EmbeddingGrad{.dweight = embed_.grad,
                       .dy = dstream,
                       .ids = cut(set, e).ids,
                       .scale = static_cast<float>(config_.embedding_multiplier),
                       .padding_id = config_.pad_token_id.value_or(-1),
                       .grad = stage_.head && !head_.present() ? Grad::Accumulate : c.grad});
}

Tensor Model::input(int64_t slot, const Extent& e) const {
  return slots_[slot].stream.front().row_range(0, e.tokens());
}

Tensor Model::output(int64_t slot, const Extent& e) const {
  return slots_[slot].stream.back().row_range(0, e.tokens());
}

Tensor Model::gradient(const Extent& e) const { return dstream_.row_range(0, e.tokens()); }

Tensor Model::hidden(int64_t slot, int64_t layer, const Extent& e) const {
  const SlotSet& set = slots_[slot];
  const bool last = layer == static_cast<int64_t>(blocks_.size());
  return (last ? set.final : set.stream[layer]).row_range(0, e.tokens());
}

Model::Cache Model::make_cache(Memory& memory, int64_t capacity) const {
  Cache cache;
  for (const Block& block : blocks_) cache.blocks.push_back(block.make_cache(memory, capacity));
  return cache;
}

void Model::decode(Ctx& c, Cache& cache, int64_t tokens, const Tensor& out) {
  SlotSet& set = slots_[0];
  const Extent e{1, tokens};
  embed(c, set, e);
  const BlockInputs in = block_inputs(set, e);
  for (size_t l = 0; l < blocks_.size(); ++l) {
    cache.blocks[l].attention.length = cache.length;
    blocks_[l].forward(c, blocks_[l].saved(set.banks[l], e), in, set.stream[l].row_range(0, tokens),
                       {set.stream[l + 1].row_range(0, tokens), true}, &cache.blocks[l]);
  }
  cache.length += tokens;
  final_norm(c, set, e);
  const Temp logits = c.temp(precision_.compute, {1, padded_vocab_});
  c(ops::Gemm{.y = logits,
              .a = set.final.row_range(tokens - 1, tokens),
              .b = (head_.present() ? head_ : embed_).value,
              .alpha = static_cast<float>(config_.lm_head_multiplier)});
  c(ops::Copy{.y = out, .x = logits.get().columns(0, config_.vocab_size)});
}

}  // namespace ft
