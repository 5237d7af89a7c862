// Conv1d and Conv1dGrad against the tap-by-tap twin; the twin's gradient against finite
// differences.
#include "tests/catch.h"

#include "core/ops.h"
#include "tests/reference/array.h"
#include "tests/reference/conv.h"

#include <omp.h>

using namespace ft;
using reference::Array;

namespace {

struct Shape {
  int64_t B = 1, L = 7, k = 4;
  std::array<int64_t, 3> sections{6, 3, 4};
  std::vector<int64_t> starts{};
  bool carried = false, history = true, bias = true;
  int64_t gap = 0;
  Dtype dtype = Dtype::F32;
};

struct Run {
  Shape s;
  std::mt19937_64 random{5};
  int64_t T = s.B * s.L, C = s.sections[0] + s.sections[1] + s.sections[2];
  Array x, y, dy, dx, w, dw, bias, dbias, history, dhistory;
  std::vector<int32_t> docs;
  reference::Conv twin;

  explicit Run(const Shape& shape)
      : s(shape),
        x(T, C, s.dtype, s.gap),
        y(T, C, s.dtype, s.gap),
        dy(T, C, s.dtype, s.gap),
        dx(T, C, s.dtype, s.gap),
        w(C, s.k),
        dw(C, s.k),
        bias(1, C),
        dbias(1, C),
        history(s.B * (s.k - 1), C, s.dtype),
        dhistory(s.B * (s.k - 1), C),
        docs(reference::documents(s.B, s.L, s.starts, s.carried)) {
    for (Array* a : {&x, &dy, &w, &bias, &history}) a->fill(random);
    for (Array* a : {&dw, &dbias}) a->fill(random, 0);
    twin = {s.B,
            s.L,
            C,
            s.k,
            x.values,
            w.values,
            s.bias ? bias.values : std::vector<double>{},
            s.history ? history.values : std::vector<double>{},
            docs,
            s.sections,
            {0.5, 1.25, 2}};
  }
  template <class Op>
  void common(Op& op) {
    if (s.bias) op.bias = In(bias.flat());
    if (s.history) op.history = In(history.tensor());
    op.sections = s.sections, op.scales = {0.5f, 1.25f, 2.0f}, op.sequences = s.B;
  }
  void forward() {
    ops::Conv1d op{
        .y = y.tensor(), .x = x.tensor(), .w = w.tensor(), .docs = reference::docs_tensor(docs)};
    common(op);
    cpu::run(op, {});
  }
  void backward(Grad grad = Grad::Accumulate) {
    ops::Conv1dGrad op{.dx = dx.tensor(),
                       .dw = dw.tensor(),
                       .dy = dy.tensor(),
                       .x = x.tensor(),
                       .w = w.tensor(),
                       .docs = reference::docs_tensor(docs)};
    common(op);
    if (s.bias) op.dbias = Out(dbias.flat());
    if (s.history) op.dhistory = Out(dhistory.tensor());
    op.grad = grad;
    cpu::run(op, {});
  }
};

void check(const Shape& shape) {
  INFO("B " << shape.B << " L " << shape.L << " k " << shape.k << " carried " << shape.carried);
  const double limit = shape.dtype == Dtype::F32 ? 1e-5 : 2e-2;
  Run r(shape);
  r.forward(), r.backward();
  const reference::ConvGrads g = reference::conv_grad(r.twin, r.dy.values);
  CHECK(r.y.error(reference::conv(r.twin)) <= limit);
  CHECK(r.dx.error(g.x) <= limit);
  CHECK(r.dw.error(g.w) <= 1e-5);
  if (shape.bias) CHECK(r.dbias.error(g.bias) <= 1e-5);
  if (shape.history && shape.k > 1) CHECK(r.dhistory.error(g.history) <= 1e-5);
}

}  // namespace

TEST_CASE("the conv twin's gradient is that of finite differences", "[conv]") {
  for (const bool carried : {false, true}) {
    Run r({.B = 2, .L = 9, .starts = {5, 6}, .carried = carried});
    reference::Conv& s = r.twin;
    const reference::ConvGrads g = reference::conv_grad(s, r.dy.values);
    const auto loss = [&] { return reference::inner(reference::conv(s), r.dy.values); };
    CHECK(reference::worst(g.x, reference::differences(s.x, loss)) < 1e-7);
    CHECK(reference::worst(g.w, reference::differences(s.w, loss)) < 1e-7);
    CHECK(reference::worst(g.bias, reference::differences(s.bias, loss)) < 1e-7);
    CHECK(reference::worst(g.history, reference::differences(s.history, loss)) < 1e-7);
  }
}

TEST_CASE("conv: every length and width", "[conv]") {
  for (const int64_t L : {1, 2, 3, 7, 64, 65, 130})
    for (const int64_t k : {1, 2, 3, 4, 5})
      for (const bool carried : {false, true})
        for (const bool history : {false, true})
          check({.B = 2, .L = L, .k = k, .carried = carried, .history = history, .bias = L != 7});
}

TEST_CASE("conv: documents, also of one token and at block edges", "[conv]") {
  const std::vector<std::vector<int64_t>> layouts{
      {1}, {2, 3, 4}, {64}, {63, 65}, {62, 63, 64, 65, 66}, {129}};
  for (const auto& starts : layouts)
    for (const bool carried : {false, true})
      check({.B = 3, .L = 130, .starts = starts, .carried = carried});
}

TEST_CASE("conv: column views, many channels and bf16", "[conv]") {
  check({.B = 2, .L = 70, .sections = {300, 70, 143}, .starts = {9}, .carried = true, .gap = 5});
  for (const int64_t L : {1, 7, 130})
    check({.B = 2, .L = L, .starts = {5, 70}, .carried = true, .gap = 3, .dtype = Dtype::BF16});
}

TEST_CASE("conv: the number of threads does not change a bit", "[conv]") {
  const int before = omp_get_max_threads();
  const Shape shape{.B = 2, .L = 200, .starts = {20, 150}, .carried = true};
  omp_set_num_threads(1);
  Run one(shape);
  one.forward(), one.backward();
  for (const int threads : {2, 3}) {
    omp_set_num_threads(threads);
    Run many(shape);
    many.forward(), many.backward();
    for (auto field : {&Run::y, &Run::dx, &Run::dw, &Run::dbias, &Run::dhistory})
      CHECK((one.*field).same_bits(many.*field));
  }
  omp_set_num_threads(before);
}

TEST_CASE("conv: parameter gradients accumulate or overwrite", "[conv]") {
  Run r({.L = 20});
  const reference::ConvGrads g = reference::conv_grad(r.twin, r.dy.values);
  r.backward(), r.backward();
  for (int64_t i = 0; i < r.C * r.s.k; ++i)
    CHECK(r.dw.at(i / r.s.k, i % r.s.k) == Approx(2 * g.w[i]).margin(1e-4));
  r.backward(Grad::Overwrite);
  CHECK(r.dw.error(g.w) <= 1e-5);
  CHECK(r.dbias.error(g.bias) <= 1e-5);
}
