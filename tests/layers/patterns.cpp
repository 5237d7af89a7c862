// Every order of the layer pattern's symbols: blocks share memory, and each asks for other sizes.
// The same bits whatever is kept, in training, evaluation, generation and probe.
#include "tests/layers/run.h"

#include "cpu/device.h"
#include "tests/catch.h"

#include <algorithm>

using namespace ft;
using test::ModelRun;

namespace {

constexpr Extent kExtent{2, 11};
constexpr Recompute kPolicies[] = {Recompute::None, Recompute::Selective, Recompute::Full};

// Orders of one to three different symbols.
std::vector<std::string> patterns() {
  std::vector<std::string> all{"P", "M", "A", "F"};
  for (size_t i = 0; i < all.size(); ++i)
    for (const char symbol : {'P', 'M', 'A', 'F'})
      if (all[i].size() < 3 && all[i].find(symbol) == std::string::npos)
        all.push_back(all[i] + symbol);
  return all;
}

// Which mixer is the wider one decides which block asks for most.
ModelConfig shaped(const std::string& pattern, bool wide_attention) {
  ModelConfig m = test::tiny(pattern, static_cast<int64_t>(pattern.size()));
  if (wide_attention) m.num_attention_heads = 8, m.num_key_value_heads = 4, m.head_dim = 14;
  else m.mamba_d_ssm = 48, m.mamba_d_head = 0, m.mamba_d_state = 19;
  m.mamba_d_conv = static_cast<int64_t>(2 * pattern.size()) - 1;  // 1, 3, 5 taps
  m.finish();
  return m;
}

Batch batch(const Extent& e = kExtent) {
  std::vector<int64_t> ids, documents;
  for (int64_t i = 0; i < e.tokens(); ++i) {
    ids.push_back((i * i + 5 * i) % 37);
    documents.push_back(i < 3 ? 0 : i < 4 ? 1 : 2);
  }
  return make_batch(e.sequences, e.length, ids, documents, {});
}

// Logits of one sequence read in pieces of `piece` tokens, the last of each piece.
std::vector<float> decoded(ModelRun& run, int64_t piece) {
  Model& model = run.engine.model();
  const int64_t vocab = model.config().vocab_size, length = run.input.length;
  Model::Cache cache = model.make_cache(run.engine.memory(), length);
  std::vector<float> all, row(static_cast<size_t>(vocab));
  for (int64_t at = 0; at < length; at += piece) {
    const int64_t n = std::min(piece, length - at);
    Batch part{.sequences = 1, .length = n};
    part.ids.assign(run.input.ids.begin() + at, run.input.ids.begin() + at + n);
    part.labels.assign(static_cast<size_t>(n), Batch::kIgnore);
    part.docs.assign(static_cast<size_t>(n), static_cast<int32_t>(-at));
    run.engine.feed(0, part);
    Ctx c = run.engine.context();
    model.decode(c, cache, n, Tensor(row.data(), Dtype::F32, {1, vocab}));
    all.insert(all.end(), row.begin(), row.end());
  }
  return all;
}

}  // namespace

TEST_CASE("patterns: training and evaluation have the same bits in every order of blocks",
          "[patterns]") {
  for (const bool wide_attention : {false, true})
    for (const std::string& pattern : patterns()) {
      INFO(pattern << (wide_attention ? ", wide attention" : ", wide state space"));
      const ModelConfig model = shaped(pattern, wide_attention);
      ModelRun kept(model, batch(), {.extent = kExtent, .threads = 1});
      kept.backward();
      const std::vector<float> gradients = kept.gradients();
      const double loss = kept.loss();
      const std::vector<float> logits = kept.logits();
      for (const Recompute policy : kPolicies) {
        ModelRun run(model, batch(), {.extent = kExtent, .recompute = policy, .threads = 1});
        run.backward();
        CHECK(run.gradients() == gradients);
        CHECK(run.loss() == loss);
      }
      ModelRun inference(model, batch(), {.extent = kExtent, .training = false, .threads = 1});
      CHECK(inference.loss() == loss);
      CHECK(inference.logits() == logits);
      for (int64_t layer = 0; layer <= model.num_hidden_layers; ++layer) {
        const auto values = [&](ModelRun& run) {
          return run.engine.memory().transfer().download<float>(
              run.engine.model().hidden(0, layer, kExtent));
        };
        CHECK(values(inference) == values(kept));
      }
    }
}

TEST_CASE("patterns: generation reads the same logits in every order of blocks", "[patterns]") {
  const Extent e{1, 11};
  Batch input = batch(e);
  std::fill(input.docs.begin(), input.docs.end(), 0);
  for (const std::string& pattern : patterns()) {
    INFO(pattern);
    const ModelConfig model = shaped(pattern, pattern.size() % 2 == 0);
    ModelRun whole(model, input, {.extent = e, .training = false, .threads = 1});
    const std::vector<float> logits = whole.logits();
    const int64_t vocab = model.vocab_size;
    for (const int64_t piece : {int64_t{1}, int64_t{4}}) {
      ModelRun run(model, input, {.extent = e, .training = false, .threads = 1});
      const std::vector<float> got = decoded(run, piece);
      double off = 0;
      for (int64_t i = 0; i < static_cast<int64_t>(got.size()) / vocab; ++i) {
        const int64_t token = std::min((i + 1) * piece, e.length) - 1;
        for (int64_t v = 0; v < vocab; ++v)
          off = std::max(
              off, std::abs(static_cast<double>(got[i * vocab + v]) - logits[token * vocab + v]));
      }
      CHECK(off < 2e-5);
    }
  }
}

TEST_CASE("patterns: a batch beyond the plan is refused, a smaller one is not", "[patterns]") {
  const ModelConfig model = shaped("AP", false);
  const Extent small{1, 7};
  ModelRun exact(model, batch(small), {.extent = small, .threads = 1});
  exact.backward();
  ModelRun run(model, batch(small),
               {.extent = kExtent, .recompute = Recompute::Full, .threads = 1});
  run.backward();
  CHECK(run.gradients() == exact.gradients());
  run.input = batch({3, 11});
  CHECK_THROWS_WITH(run.backward(), Catch::Contains("3 x 11 tokens") && Catch::Contains("22"));
  // As many tokens in more sequences have more chunks, and states to keep for each.
  run.input = batch({22, 1});
  CHECK_THROWS_WITH(run.backward(), Catch::Contains("slot states"));
}

TEST_CASE("slots: a shared slot has the size of the largest wish, and none gets more",
          "[patterns]") {
  const auto device = cpu::open_device(1);
  Memory memory(*device, false);
  SharedSlots shared;
  SlotBank first(memory, shared, Recompute::Full), second(memory, shared, Recompute::Full);
  first.slot("p", Fate::Block, Dtype::F32, {4, 10});
  second.slot("p", Fate::Block, Dtype::F32, {4, 1000});
  shared.allocate(memory);
  CHECK(memory.total() == 4 * 1000 * 4);
  first.rewind(), second.rewind();
  const Slot a = first.slot("p", Fate::Block, Dtype::F32, {4, 10});
  const Slot b = second.slot("p", Fate::Block, Dtype::F32, {4, 1000});
  CHECK(!a.kept);
  CHECK(a.tensor.data == b.tensor.data);
  first.rewind();
  CHECK_THROWS_WITH(first.slot("p", Fate::Block, Dtype::F32, {4, 1001}),
                    Catch::Contains("slot p: 16016 bytes are wanted and 16000 were planned"));
}
