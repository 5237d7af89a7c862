// Embedding and EmbeddingGrad against the twin.
#include "tests/catch.h"

#include "core/ops.h"
#include "tests/reference/array.h"
#include "tests/reference/embedding.h"

#include <omp.h>

using namespace ft;
using reference::Array;

namespace {

struct Run {
  int64_t T, C, V;
  Array weight, y, dy, dweight;
  std::vector<int32_t> ids;

  Run(int64_t tokens, int64_t columns, int64_t rows, Dtype dtype, Dtype stored, int64_t gap)
      : T(tokens),
        C(columns),
        V(rows),
        weight(V, C, stored),
        y(T, C, dtype, gap),
        dy(y),
        dweight(V, C),
        ids(T) {
    std::mt19937_64 random(11);
    weight.fill(random), dy.fill(random), dweight.fill(random);
    for (int32_t& id : ids) id = static_cast<int32_t>(random() % static_cast<uint64_t>(V));
  }
  In tokens() { return In(Tensor(ids.data(), Dtype::I32, {T})); }
  void forward() {
    cpu::run(
        ops::Embedding{.y = y.tensor(), .ids = tokens(), .weight = weight.tensor(), .scale = 5.5f},
        {});
  }
  void backward(Grad grad, int64_t padding_id) {
    cpu::run(ops::EmbeddingGrad{.dweight = dweight.tensor(),
                                .dy = dy.tensor(),
                                .ids = tokens(),
                                .scale = 5.5f,
                                .padding_id = padding_id,
                                .grad = grad},
             {});
  }
};

}  // namespace

TEST_CASE("embedding: rows, scaled, in either dtype", "[embedding]") {
  for (const int64_t T : {1, 2, 3, 17, 64, 65, 130})
    for (const int64_t C : {1, 8, 100})
      for (const Dtype dtype : {Dtype::F32, Dtype::BF16})
        for (const Dtype stored : {Dtype::F32, Dtype::BF16}) {
          Run r(T, C, 23, dtype, stored, 2);
          r.forward();
          CHECK(r.y.error(reference::embedding(r.weight.values, r.ids, C, 5.5)) <=
                (dtype == Dtype::F32 ? 1e-6 : 1e-2));
        }
}

TEST_CASE("embedding gradient: sums by id, with and without a padding row", "[embedding]") {
  for (const int64_t T : {1, 2, 3, 17, 64, 65, 130})
    for (const int64_t C : {1, 8, 100, 130})
      for (const Dtype dtype : {Dtype::F32, Dtype::BF16})
        for (const int64_t padding_id : {-1, 0, 4})
          for (const Grad grad : {Grad::Overwrite, Grad::Accumulate}) {
            Run r(T, C, 7, dtype, Dtype::F32, 3);
            std::vector<double> want = r.dweight.values;
            if (grad == Grad::Overwrite) want.assign(want.size(), 0);
            reference::embedding_grad(want, r.dy.values, r.ids, C, 5.5, padding_id);
            r.backward(grad, padding_id);
            CHECK(r.dweight.error(want) <= 1e-5);
          }
}

TEST_CASE("embedding gradient: rows without a token keep their bits or become zero",
          "[embedding]") {
  Run r(4, 8, 7, Dtype::F32, Dtype::F32, 0);
  r.ids = {2, 2, 5, 2};
  const Array before = r.dweight;
  r.backward(Grad::Accumulate, 5);
  for (const int64_t row : {0, 1, 3, 4, 5, 6})
    for (int64_t c = 0; c < 8; ++c) CHECK(r.dweight.at(row, c) == before.at(row, c));
  r.backward(Grad::Overwrite, 5);
  for (const int64_t row : {0, 1, 3, 4, 5, 6})
    for (int64_t c = 0; c < 8; ++c) CHECK(r.dweight.at(row, c) == 0);
}

TEST_CASE("embedding: the gradient is finite differences of the value", "[embedding]") {
  Run r(9, 4, 5, Dtype::F32, Dtype::F32, 0);
  const auto loss = [&] {
    return reference::inner(reference::embedding(r.weight.values, r.ids, r.C, 5.5), r.dy.values);
  };
  r.backward(Grad::Overwrite, -1);
  CHECK(r.dweight.error(reference::differences(r.weight.values, loss)) < 1e-5);
}

TEST_CASE("embedding gradient: the same bits with one thread and with several", "[embedding]") {
  const int before = omp_get_max_threads();
  omp_set_num_threads(1);
  Run one(300, 200, 5, Dtype::F32, Dtype::F32, 0);
  one.backward(Grad::Accumulate, 0);
  for (const int threads : {2, 3}) {
    omp_set_num_threads(threads);
    Run more(300, 200, 5, Dtype::F32, Dtype::F32, 0);
    more.backward(Grad::Accumulate, 0);
    CHECK(more.dweight.same_bits(one.dweight));
  }
  omp_set_num_threads(before);
}
