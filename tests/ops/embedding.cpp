// Embedding and EmbeddingGrad against the twin.
#include "tests/ops/case.h"

#include "tests/reference/embedding.h"

using namespace ft;
using namespace ft::test;

namespace {

struct Shape {
  int64_t T, C, V;
  Dtype dtype = Dtype::F32, stored = Dtype::F32;
  int64_t gap = 0;
  Grad grad = Grad::Overwrite;
  int64_t padding_id = -1;
};

struct Run {
  Shape s;
  Buffer weight{s.stored, s.V, s.C}, y{s.dtype, s.T, s.C, s.gap}, dy{y},
      dweight{Dtype::F32, s.V, s.C};
  std::vector<int32_t> ids;

  explicit Run(const Shape& shape) : s(shape), ids(static_cast<size_t>(s.T)) {
    std::mt19937_64 random(11);
    weight.uniform(random), dy.uniform(random), dweight.uniform(random);
    for (int32_t& id : ids) id = static_cast<int32_t>(random() % static_cast<uint64_t>(s.V));
  }
  void forward() {
    const Buffer tokens(ids);
    run(ops::Embedding{.y = *y, .ids = *tokens, .weight = *weight, .scale = 5.5f});
  }
  void backward(Grad grad, int64_t padding_id) {
    const Buffer tokens(ids);
    run(ops::EmbeddingGrad{.dweight = *dweight,
                           .dy = *dy,
                           .ids = *tokens,
                           .scale = 5.5f,
                           .padding_id = padding_id,
                           .grad = grad});
  }
};

Case case_of(const Shape& shape) {
  return {
      fmt::format("T {} C {} {} of {} padding {}", shape.T, shape.C, name_of(shape.dtype),
                  name_of(shape.stored), shape.padding_id),
      [shape] {
        Run r(shape);
        r.forward(), r.backward(shape.grad, shape.padding_id);
        return std::vector<Output>{{"y", r.y}, {"dweight", r.dweight}};
      },
      [shape] {
        const Run r(shape);
        Vector dweight = r.dweight.values();
        if (shape.grad == Grad::Overwrite) dweight.assign(dweight.size(), 0);
        reference::embedding_grad(dweight, r.dy.values(), r.ids, shape.C, 5.5, shape.padding_id);
        return std::vector<Want>{{"y", reference::embedding(r.weight.values(), r.ids, shape.C, 5.5),
                                  shape.dtype == Dtype::F32 ? 1e-6 : 1e-2},
                                 {"dweight", dweight, 1e-5}};
      }};
}

}  // namespace

TEST_CASE("embedding: rows, scaled, in either dtype", "[embedding]") {
  FT_ON_EACH_BACKEND;
  for (const int64_t T : {1, 2, 3, 17, 64, 65, 130})
    for (const int64_t C : {1, 8, 100})
      for (const Dtype dtype : kBoth)
        for (const Dtype stored : kBoth) check(case_of({T, C, 23, dtype, stored, 2}));
}

TEST_CASE("embedding gradient: sums by id, with and without a padding row", "[embedding]") {
  FT_ON_EACH_BACKEND;
  for (const int64_t T : {1, 2, 3, 17, 64, 65, 130})
    for (const int64_t C : {1, 8, 100, 130})
      for (const Dtype dtype : kBoth)
        for (const int64_t padding_id : {-1, 0, 4})
          for (const Grad grad : {Grad::Overwrite, Grad::Accumulate})
            check(case_of({T, C, 7, dtype, Dtype::F32, 3, grad, padding_id}));
}

TEST_CASE("embedding gradient: rows without a token keep their bits or become zero",
          "[embedding]") {
  FT_ON_EACH_BACKEND;
  Run r({4, 8, 7});
  r.ids = {2, 2, 5, 2};
  const Buffer before = r.dweight;
  r.backward(Grad::Accumulate, 5);
  for (const int64_t row : {0, 1, 3, 4, 5, 6})
    for (int64_t c = 0; c < 8; ++c) CHECK(r.dweight.at(row, c) == before.at(row, c));
  r.backward(Grad::Overwrite, 5);
  for (const int64_t row : {0, 1, 3, 4, 5, 6})
    for (int64_t c = 0; c < 8; ++c) CHECK(r.dweight.at(row, c) == 0);
}

TEST_CASE("embedding: the gradient is finite differences of the value", "[embedding]") {
  FT_ON_EACH_BACKEND;
  Run r({9, 4, 5});
  r.backward(Grad::Overwrite, -1);
  const Vector dy = r.dy.values();
  const auto loss = [&](const Vector& weight) {
    return dot(reference::embedding(weight, r.ids, r.s.C, 5.5), dy);
  };
  CHECK(error_of(r.dweight, differences(loss, r.weight.values())) < 1e-5);
}

TEST_CASE("embedding gradient: the same bits with one thread and with several", "[embedding]") {
  FT_ON_EACH_BACKEND;
  check_threads(case_of({300, 200, 5, Dtype::F32, Dtype::F32, 0, Grad::Accumulate, 0}));
}

TEST_CASE("embedding: backends agree", "[embedding][backends]") {
  for (const Dtype dtype : kBoth)
    check_backends(case_of({65, 100, 7, dtype, dtype, 3, Grad::Accumulate, 4}));
}
