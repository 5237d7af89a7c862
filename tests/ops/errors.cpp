// Errors inside the ops' parallel loops come out as errors, the same for any number of threads, and
// name layer and op on their way through the gateway.
#include "tests/ops/cases.h"

#include "core/observe.h"
#include "core/transfer.h"
#include "cpu/common.h"
#include "cpu/device.h"

using namespace ft;
using namespace ft::test;
using Catch::Contains;

namespace {

struct Gateway {
  std::unique_ptr<Device> device = cpu::open_device(2);
  Scratch scratch;
  Ctx c{*device, scratch, true};
};

}  // namespace

TEST_CASE("what parallel loops throw comes out: the lowest index's, and the rest is done",
          "[errors]") {
  for (const int threads : {1, 2, 3})
    with_threads(threads, [] {
      std::vector<int> done(100);
      const auto work = [&](int64_t i) {
        if (i % 30 == 29) throw Error(fmt::format("at {}", i));
        done[static_cast<size_t>(i)] = 1;
      };
      CHECK_THROWS_WITH(cpu::parallel_for(100, work), "at 29");
      CHECK(std::count(done.begin(), done.end(), 1) == 97);
      cpu::parallel_for(29, work);  // nothing is left behind
      CHECK_THROWS_AS(cpu::parallel_for(1, [](int64_t) { throw std::bad_alloc(); }),
                      std::bad_alloc);
    });
}

TEST_CASE("an op whose threads meet an error throws it", "[errors]") {
  // A vector as y has no columns to add to: found tile by tile, at work.
  for (const Dtype dtype : {Dtype::F32, Dtype::BF16}) {
    Buffer a(dtype, 40, 8), b(dtype, 1, 8), y(Dtype::F32, 40);
    const Tensor vector((*y).data, Dtype::F32, {40});
    a.random(1), b.random(2), y.fill(0);
    CHECK_THROWS_WITH(
        cpu::run(ops::Gemm{.y = vector, .a = *a, .b = *b, .grad = Grad::Accumulate}, Stream{}),
        Contains("columns"));
  }
}

TEST_CASE("token ids outside the table are refused before they are followed", "[errors]") {
  Gateway g;
  g.c.where = "model.embed_tokens";
  for (const int32_t bad : {-1, 5, 1 << 30}) {
    Buffer ids(Dtype::I32, 4), weight(Dtype::F32, 5, 3), y(Dtype::F32, 4, 3);
    ids.fill(2), weight.random(1), y.fill(0);
    ids.set(3, bad);
    const std::string words = fmt::format("id {} of token 3 is outside the table of 5 rows", bad);
    CHECK_THROWS_WITH(g.c(ops::Embedding{.y = *y, .ids = *ids, .weight = *weight}),
                      "model.embed_tokens: embedding: " + words);
    CHECK_THROWS_WITH(g.c(ops::EmbeddingGrad{.dweight = *weight, .dy = *y, .ids = *ids}),
                      "model.embed_tokens: embedding_grad: " + words);
  }
}

TEST_CASE("the first bad value is named, a NaN without its sign", "[errors]") {
  Gateway g;
  Transfer transfer(g.c.device);
  Inspector inspector(transfer);
  g.c.observer = &inspector, g.c.where = "model.layers.3.";
  Buffer x(Dtype::F32, 2, 3), y(Dtype::F32, 2, 3);
  x.fill(1), x.set(4, -std::numeric_limits<double>::quiet_NaN());
  g.c(ops::Copy{.y = *y, .x = *x});
  CHECK(inspector.first_bad() == "model.layers.3: copy.y at [1, 1] is nan");
}

TEST_CASE("errors of dtype and shape name the layer and the op", "[errors]") {
  Gateway g;
  g.c.where = "model.layers.3.";
  Buffer x(Dtype::I32, 4, 6), y(Dtype::F32, 4, 6), w(Dtype::BF16, 6), rstd(Dtype::F32, 4);
  x.fill(1), y.fill(0), w.fill(1), rstd.fill(0);
  CHECK_THROWS_WITH(g.c(ops::Sum{.out = *rstd, .x = *x}),
                    Contains("model.layers.3: sum: ") && Contains("int32"));
  CHECK_THROWS_WITH(g.c(ops::RmsNorm{.y = *y, .rstd = *rstd, .x = *y, .w = *w}),
                    "model.layers.3: rms_norm: tensor holds bf16, not fp32");
  // A name that is there already is not said twice; a counting pass names it, too.
  Ctx counting(*g.device, g.scratch, false);
  counting.where = "lm_head";
  Buffer q(Dtype::F32, 4, 6), k(Dtype::F32, 4, 4), docs(Dtype::I32, 4), lse(Dtype::F32, 2, 4);
  const ops::Attention op{
      .o = *q, .lse = *lse, .q = *q, .k = *k, .v = *k, .docs = *docs, .heads = 2, .kv_heads = 2};
  CHECK_THROWS_WITH(counting(op), Contains("lm_head: attention: q [4, 6]"));
}
