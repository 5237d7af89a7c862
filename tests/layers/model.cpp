// The whole model, every symbol of the layer pattern and every optional part: gradients against
// finite differences of the loss, the same bits under every recompute policy, and a step's memory.
#include "tests/layers/run.h"

#include "tests/catch.h"

#include <cmath>
#include <map>
#include <set>

using namespace ft;
using test::tiny;

namespace {

constexpr Extent kExtent{2, 11};

// Two rows, the first of three documents.
Batch batch() {
  std::vector<int64_t> ids, documents;
  for (int64_t i = 0; i < kExtent.tokens(); ++i) {
    ids.push_back((i * i + 5 * i) % 37);
    documents.push_back(i < 3 ? 0 : i < 4 ? 1 : 2);
  }
  return make_batch(kExtent.sequences, kExtent.length, ids, documents, {});
}

struct Run : test::ModelRun {
  Run(const ModelConfig& model, Recompute recompute, float z = 0)
      : ModelRun(model, batch(), {.extent = kExtent, .recompute = recompute, .z_loss = z}) {}
};

// The slope of the loss along a random direction of one piece: from its gradient, and by
// differences.
std::pair<double, double> slopes(Run& run, const Param& p, const Piece& piece) {
  Transfer& transfer = run.engine.memory().transfer();
  const Tensor w = box(p.master, piece);
  const auto start = transfer.download<float>(w), g = transfer.download<float>(box(p.grad, piece));
  std::vector<float> direction, moved(start.size());
  double norm = 0;
  for (int64_t i = 0; i < piece.size(); ++i) {
    direction.push_back(static_cast<float>(
        random_normal(3, Purpose::Test, name_hash(piece.label().data(), piece.label().size()),
                      static_cast<uint64_t>(i))));
    norm += static_cast<double>(direction.back()) * direction.back();
  }
  double by_gradient = 0;
  for (size_t i = 0; i < direction.size(); ++i) {
    direction[i] /= static_cast<float>(std::sqrt(norm));
    by_gradient += static_cast<double>(g[i]) * direction[i];
  }
  const auto loss_at = [&](double step) {
    for (size_t i = 0; i < moved.size(); ++i)
      moved[i] = start[i] + static_cast<float>(step) * direction[i];
    transfer.upload(w, moved.data());
    return run.loss();
  };
  // Fourth order: the step can be long enough for fp32.
  constexpr double kStep = 0.02;
  const double by_difference =
      (8 * (loss_at(kStep) - loss_at(-kStep)) - loss_at(2 * kStep) + loss_at(-2 * kStep)) /
      (12 * kStep);
  loss_at(0);
  return {by_gradient, by_difference};
}

}  // namespace

TEST_CASE("model: gradients are finite differences of the loss, for every symbol", "[model]") {
  const auto [pattern, layers] =
      GENERATE(table<std::string, int64_t>({{"P", 1}, {"M", 1}, {"A", 1}, {"F", 1}, {"PMAF", 4}}));
  const bool tied = GENERATE(false, true);
  ModelConfig model = tiny(pattern, layers);
  model.tie_word_embeddings = tied;
  INFO(pattern << (tied ? " tied" : ""));
  Run run(model, Recompute::None, tied ? 0.05f : 0.0f);
  run.backward();
  int pieces = 0;
  run.engine.store().for_pieces([&](Param& p, Piece& piece) {
    const auto [gradient, difference] = slopes(run, p, piece);
    INFO(piece.label());
    CHECK(gradient == Approx(difference).epsilon(5e-3).margin(3e-5));
    ++pieces;
  });
  CHECK(pieces > 8);
}

TEST_CASE("model: gradients have the same bits under every recompute policy", "[model]") {
  const ModelConfig model = tiny("PMAFP", 5);
  std::vector<float> reference;
  for (const Recompute policy : {Recompute::None, Recompute::Selective, Recompute::Full}) {
    Run run(model, policy);
    run.backward();
    const auto gradients = run.gradients();
    if (reference.empty()) reference = gradients;
    CHECK(gradients == reference);
  }
}

TEST_CASE("model: accumulation adds, overwriting forgets", "[model]") {
  Run run(tiny("PF", 2), Recompute::None);
  run.backward();
  const auto once = run.gradients();
  run.backward();
  CHECK(run.gradients() == once);
  run.backward(Grad::Accumulate);
  const auto twice = run.gradients();
  for (size_t i = 0; i < once.size(); ++i)
    REQUIRE(twice[i] == Approx(2 * once[i]).epsilon(1e-5).margin(1e-7));
}

TEST_CASE("model: a batch that points outside of the model's tables is refused", "[model]") {
  Run run(tiny("P", 1), Recompute::None);
  const auto refused = [&](std::vector<int32_t> Batch::*field, int32_t value) {
    Batch batch = run.input;
    (batch.*field)[5] = value;
    CHECK_THROWS_WITH(run.engine.feed(0, batch), Catch::Contains("token 5 of a batch"));
  };
  refused(&Batch::ids, -1), refused(&Batch::ids, 37);
  refused(&Batch::labels, 37);
  refused(&Batch::docs, 6), refused(&Batch::docs, -static_cast<int32_t>(kExtent.length));
  run.engine.feed(0, run.input);  // it is well
  Batch ignored = run.input;
  ignored.labels[5] = -7;
  run.engine.feed(0, ignored);
  // Without attention there is no table of positions.
  ModelConfig model = tiny("M", 1);
  model.num_attention_heads = model.num_key_value_heads = 0;
  Run mamba(model, Recompute::None);
  Batch far = mamba.input;
  std::fill(far.docs.begin(), far.docs.end(), -1000);
  mamba.engine.feed(0, far);
}

TEST_CASE("model: a plan counts what a run takes", "[model]") {
  const ModelConfig model = tiny("PMAF", 4);
  Run run(model, Recompute::Selective);
  Engine planned(*run.device, {.model = model,
                               .precision = {},
                               .plan = {.largest = kExtent,
                                        .recompute = Recompute::Selective,
                                        .positions = kExtent.length,
                                        .training = true},
                               .is_virtual = true});
  CHECK(planned.memory().ledger() == run.engine.memory().ledger());
  Ctx c = run.engine.context();
  run.engine.feed(0, run.input);
  run.engine.model().forward(c, 0, kExtent);
  run.engine.model().backward(c, 0, kExtent);
  const Tally tally = planned.count(true);
  CHECK(c.tally.flops == tally.flops);
  CHECK(c.tally.ops == tally.ops);
}

TEST_CASE("model: every piece has its class and its part of the model", "[model]") {
  Run run(tiny("PMAF", 4), Recompute::None);
  std::map<std::string, std::set<std::string>> names;  // what is left of them, by class and part
  run.engine.store().for_pieces([&](Param&, Piece& piece) {
    std::string name = piece.label();
    if (name.starts_with("model.layers.")) name = name.substr(name.find('.', 13) + 1);
    names[parameter_class(piece) + ", " + piece.part].insert(name);
  });
  using Names = std::set<std::string>;
  CHECK(names["embedding, embedding"] == Names{"model.embed_tokens.weight"});
  CHECK(names["head, head"] == Names{"lm_head.weight"});
  CHECK(names["norm, norms"] ==
        Names{"input_layernorm.weight", "pre_ff_layernorm.weight", "model.final_layernorm.weight"});
  CHECK(names["norm, mamba"] == Names{"mamba.norm.weight"});
  CHECK(names["conv, mamba"] == Names{"mamba.conv1d.weight"});
  CHECK(names["out_proj, mamba"] == Names{"mamba.out_proj.weight"});
  for (const std::string one : {"dt_bias", "A_log", "D"})
    CHECK(names[one + ", mamba"] == Names{"mamba." + one});
  for (const std::string one : {"z", "x", "B", "C", "dt"})
    CHECK(names["in_proj_" + one + ", mamba"] == Names{"mamba.in_proj.weight[" + one + "]"});
  for (const std::string one : {"q", "k", "v", "o"})
    CHECK(names[one + ", attention"] == Names{"self_attn." + one + "_proj.weight"});
  for (const std::string one : {"gate", "up", "down"})
    CHECK(names[one + ", mlp"] == Names{"feed_forward." + one + "_proj.weight"});
  CHECK(names["bias, attention"].size() == 4);
  CHECK(names["bias, mlp"].size() == 3);
  CHECK(names["bias, mamba"].size() == 7);  // five sections, the convolution, out_proj
  CHECK(names.size() == parameter_classes().size() + 3);
  CHECK_THROWS_WITH(parameter_class({.name = "model.strange.weight"}),
                    Catch::Contains("model.strange.weight: the layer that declares it says no"));
}
