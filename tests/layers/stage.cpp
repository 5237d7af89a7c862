// A model cut into stages, each with its own parameters and memory: handing on the residual stream
// and its gradient, they compute what the whole model computes, bit for bit.
#include "tests/layers/run.h"

#include "core/transfer.h"
#include "tests/catch.h"

#include <map>

using namespace ft;
using test::tiny;

namespace {

constexpr Extent kExtent{2, 9};
using Gradients = std::map<std::string, std::vector<float>>;

struct Part {
  Device& device;
  Memory memory;
  Scratch scratch;
  Model model;
  Store store;

  Part(Device& d, const ModelConfig& config, const Stage& stage, const Batch& batch)
      : device(d),
        memory(d, false),
        model(config, {}, stage),
        store([this](const std::function<void(Param&)>& f) { model.visit(f); }) {
    store.bind(memory, {}, true);
    model.plan(memory, {.largest = kExtent, .positions = kExtent.length});
    Ctx count(device, scratch, false);
    model.forward(count, 0, kExtent);
    model.backward(count, 0, kExtent);
    const int64_t bytes = scratch.high_water();
    scratch.bind(memory.bytes("scratch", bytes), bytes);
    store.initialise(7);
    Ctx c = context();
    model.prepare(c);
    store.refresh_compute(c);
    const MicroInputs& in = model.inputs(0);
    Transfer& transfer = memory.transfer();
    transfer.upload(in.ids, batch.ids.data());
    transfer.upload(in.labels, batch.labels.data());
    transfer.upload(in.docs, batch.docs.data());
    const float inverse = 1.0f / static_cast<float>(batch.valid);
    transfer.upload(model.inv_count(), &inverse);
  }
  Ctx context() { return Ctx(device, scratch, true); }
  void forward() {
    Ctx c = context();
    model.forward(c, 0, kExtent);
  }
  void backward() {
    Ctx c = context();
    model.backward(c, 0, kExtent);
  }
  void gradients(Gradients& all) {
    store.for_pieces([&](Param& p, Piece& piece) {
      const auto values = memory.transfer().download<float>(box(p.grad, piece));
      std::vector<float>& sum = all[piece.label()];
      sum.resize(values.size());
      for (size_t i = 0; i < values.size(); ++i) sum[i] += values[i];
    });
  }
};

void hand_on(Part& from, const Tensor& value, Part& to, const Tensor& place) {
  to.memory.transfer().upload(place, from.memory.transfer().download<float>(value).data());
}

Batch batch() {
  std::vector<int64_t> ids, documents;
  for (int64_t i = 0; i < kExtent.tokens(); ++i) {
    ids.push_back((5 * i * i + 3) % 37);
    documents.push_back(i % kExtent.length >= 4);
  }
  return make_batch(kExtent.sequences, kExtent.length, ids, documents, {});
}

}  // namespace

TEST_CASE("stages: three of them are the whole model", "[stage]") {
  ModelConfig model = tiny("PMAFP", 5);
  model.tie_word_embeddings = GENERATE(false, true);
  const auto device = cpu::open_device(1);
  Part whole(*device, model, Stage::whole(model), batch());
  whole.forward(), whole.backward();
  Gradients want, got;
  whole.gradients(want);

  Part first(*device, model, {0, 2, true, false}, batch());
  Part middle(*device, model, {2, 3, false, false}, batch());
  Part last(*device, model, {3, 5, false, true}, batch());
  first.forward();
  hand_on(first, first.model.output(0, kExtent), middle, middle.model.input(0, kExtent));
  middle.forward();
  hand_on(middle, middle.model.output(0, kExtent), last, last.model.input(0, kExtent));
  last.forward(), last.backward();
  hand_on(last, last.model.gradient(kExtent), middle, middle.model.gradient(kExtent));
  middle.backward();
  hand_on(middle, middle.model.gradient(kExtent), first, first.model.gradient(kExtent));
  first.backward();
  for (Part* part : {&first, &middle, &last}) part->gradients(got);

  REQUIRE(got.size() == want.size());
  for (const auto& [name, values] : want) {
    INFO(name);
    // A tied table has its gradient from both ends; the whole model adds them up row by row.
    if (!model.tie_word_embeddings || name != kEmbeddingName) CHECK(got.at(name) == values);
    else
      for (size_t i = 0; i < values.size(); ++i)
        CHECK(got.at(name)[i] == Approx(values[i]).epsilon(1e-5).margin(1e-7));
  }
  CHECK(last.memory.transfer().read(last.model.loss_sum()) ==
        whole.memory.transfer().read(whole.model.loss_sum()));
}
