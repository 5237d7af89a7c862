// Errors inside the ops' parallel loops come out as errors, the same for any number of threads;
// errors that only values show name layer and op. Dtypes and shapes: check.cpp.
#include "tests/ops/case.h"

#include "core/observe.h"
#include "cpu/common.h"
#include "cpu/device.h"

using namespace ft;
using namespace ft::test;
using Catch::Contains;

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

TEST_CASE("what threads would stumble over is refused before they start", "[errors]") {
  FT_ON_EACH_BACKEND;
  // A vector as y has no columns to add to.
  for (const Dtype dtype : kBoth) {
    Buffer a(dtype, 40, 8), b(dtype, 1, 8), y(Dtype::F32, 40);
    a.random(1), b.random(2), y.fill(0);
    CHECK_THROWS_WITH(run(ops::Gemm{.y = *y, .a = *a, .b = *b, .grad = Grad::Accumulate}),
                      "test: gemm: y is fp32 [40], wanted fp32 or bf16 [40, 1]");
  }
}

TEST_CASE("token ids outside the table are refused before they are followed", "[errors]") {
  Bench bench(
      backends().front());  // a GPU cannot: Engine::feed looks at a batch before it goes there
  bench.c.where = "model.embed_tokens";
  for (const int32_t bad : {-1, 5, 1 << 30}) {
    Buffer ids(Dtype::I32, 4), weight(Dtype::F32, 5, 3), y(Dtype::F32, 4, 3);
    ids.fill(2), weight.random(1), y.fill(0);
    ids.set(3, bad);
    const std::string words = fmt::format("id {} of token 3 is outside the table of 5 rows", bad);
    CHECK_THROWS_WITH(bench(ops::Embedding{.y = *y, .ids = *ids, .weight = *weight}),
                      "model.embed_tokens: embedding: " + words);
    CHECK_THROWS_WITH(bench(ops::EmbeddingGrad{.dweight = *weight, .dy = *y, .ids = *ids}),
                      "model.embed_tokens: embedding_grad: " + words);
  }
}

TEST_CASE("the first bad value is named, a NaN without its sign", "[errors]") {
  FT_ON_EACH_BACKEND;
  Transfer transfer(*bench.device);
  Inspector inspector(transfer);
  bench.c.observer = &inspector, bench.c.where = "model.layers.3.";
  Buffer x(Dtype::F32, 2, 3), y(Dtype::F32, 2, 3);
  x.fill(1), x.set(4, -std::numeric_limits<double>::quiet_NaN());
  bench(ops::Copy{.y = *y, .x = *x});
  CHECK(inspector.first_bad() == "model.layers.3: copy.y at [1, 1] is nan");
}
