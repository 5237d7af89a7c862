// Conv1d and Conv1dGrad against the tap-by-tap twin; the twin's gradient against finite
// differences.
#include "tests/ops/case.h"

#include "tests/reference/conv.h"

using namespace ft;
using namespace ft::test;

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
  Buffer x{s.dtype, T, C, s.gap}, y{x}, dy{x}, dx{x}, w{Dtype::F32, C, s.k}, dw{w};
  Buffer bias{Dtype::F32, C}, dbias{bias};
  Buffer history{s.dtype, s.B*(s.k - 1), C}, dhistory{Dtype::F32, s.B*(s.k - 1), C};
  std::vector<int32_t> docs = documents(s.B, s.L, s.starts, s.carried);
  Buffer document_starts{docs};
  reference::Conv twin;

  explicit Run(const Shape& shape) : s(shape) {
    for (Buffer* b : {&x, &dy, &w, &bias, &history}) b->uniform(random);
    for (Buffer* b : {&dw, &dbias}) b->fill(0);
    twin = {s.B,
            s.L,
            C,
            s.k,
            x.values(),
            w.values(),
            s.bias ? bias.values() : Vector{},
            s.history ? history.values() : Vector{},
            docs,
            s.sections,
            {0.5, 1.25, 2}};
  }
  ops::Conv1dInputs inputs() {
    ops::Conv1dInputs in{.x = *x,
                         .w = *w,
                         .docs = *document_starts,
                         .sections = s.sections,
                         .scales = {0.5f, 1.25f, 2.0f},
                         .sequences = s.B};
    if (s.bias) in.bias = *bias;
    if (s.history) in.history = *history;
    return in;
  }
  void forward() { run(ops::Conv1d{.in = inputs(), .y = *y}); }
  void backward(Grad grad = Grad::Accumulate) {
    ops::Conv1dGrad op{.in = inputs(), .dy = *dy, .dx = *dx, .dw = *dw, .grad = grad};
    if (s.bias) op.dbias = *dbias;
    if (s.history) op.dhistory = *dhistory;
    run(op);
  }
};

Case case_of(const Shape& shape) {
  const auto outputs = [shape] {
    Run r(shape);
    r.forward(), r.backward();
    std::vector<Output> out{{"y", r.y}, {"dx", r.dx}, {"dw", r.dw}};
    if (shape.bias) out.push_back({"dbias", r.dbias});
    if (shape.history) out.push_back({"dhistory", r.dhistory});
    return out;
  };
  const auto wanted = [shape] {
    const double limit = shape.dtype == Dtype::F32 ? 1e-5 : 2e-2;
    const Run r(shape);
    const reference::ConvGrads g = reference::conv_grad(r.twin, r.dy.values());
    std::vector<Want> want{
        {"y", reference::conv(r.twin), limit}, {"dx", g.x, limit}, {"dw", g.w, 1e-5}};
    if (shape.bias) want.push_back({"dbias", g.bias, 1e-5});
    if (shape.history && shape.k > 1) want.push_back({"dhistory", g.history, 1e-5});
    return want;
  };
  return {fmt::format("B {} L {} k {} carried {}", shape.B, shape.L, shape.k, shape.carried),
          outputs, wanted};
}

void check_shape(const Shape& shape) { check(case_of(shape)); }

}  // namespace

TEST_CASE("the conv twin's gradient is that of finite differences", "[conv]") {
  for (const bool carried : {false, true}) {
    Run r({.B = 2, .L = 9, .starts = {5, 6}, .carried = carried});
    reference::Conv& s = r.twin;
    const reference::ConvGrads g = reference::conv_grad(s, r.dy.values());
    const auto loss = [&] { return dot(reference::conv(s), r.dy.values()); };
    CHECK(error_of(g.x, differences(s.x, loss)) < 1e-7);
    CHECK(error_of(g.w, differences(s.w, loss)) < 1e-7);
    CHECK(error_of(g.bias, differences(s.bias, loss)) < 1e-7);
    CHECK(error_of(g.history, differences(s.history, loss)) < 1e-7);
  }
}

TEST_CASE("conv: every length and width", "[conv]") {
  FT_ON_EACH_BACKEND;
  for (const int64_t L : {1, 2, 3, 7, 64, 65, 130})
    for (const int64_t k : {1, 2, 3, 4, 5})
      for (const bool carried : {false, true})
        for (const bool history : {false, true})
          check_shape(
              {.B = 2, .L = L, .k = k, .carried = carried, .history = history, .bias = L != 7});
}

TEST_CASE("conv: documents, also of one token and at block edges", "[conv]") {
  FT_ON_EACH_BACKEND;
  const std::vector<std::vector<int64_t>> layouts{
      {1}, {2, 3, 4}, {64}, {63, 65}, {62, 63, 64, 65, 66}, {129}};
  for (const auto& starts : layouts)
    for (const bool carried : {false, true})
      check_shape({.B = 3, .L = 130, .starts = starts, .carried = carried});
}

TEST_CASE("conv: column views, many channels and bf16", "[conv]") {
  FT_ON_EACH_BACKEND;
  check_shape(
      {.B = 2, .L = 70, .sections = {300, 70, 143}, .starts = {9}, .carried = true, .gap = 5});
  for (const int64_t L : {1, 7, 130})
    check_shape(
        {.B = 2, .L = L, .starts = {5, 70}, .carried = true, .gap = 3, .dtype = Dtype::BF16});
}

const Shape kLong{.B = 2, .L = 200, .starts = {20, 150}, .carried = true};

TEST_CASE("conv: the number of threads does not change a bit", "[conv]") {
  FT_ON_EACH_BACKEND;
  check_threads(case_of(kLong));
}

TEST_CASE("conv: backends agree", "[conv][backends]") {
  for (const bool history : {false, true})
    check_backends(case_of({.B = 2, .L = 70, .starts = {9}, .history = history, .gap = 3}));
  check_backends(case_of({.B = 2, .L = 130, .starts = {5}, .gap = 3, .dtype = Dtype::BF16}));
}

TEST_CASE("conv: parameter gradients accumulate or overwrite", "[conv]") {
  FT_ON_EACH_BACKEND;
  Run r({.L = 20});
  const reference::ConvGrads g = reference::conv_grad(r.twin, r.dy.values());
  r.backward(), r.backward();
  for (int64_t i = 0; i < r.C * r.s.k; ++i)
    CHECK(r.dw.at(i / r.s.k, i % r.s.k) == Approx(2 * g.w[i]).margin(1e-4));
  r.backward(Grad::Overwrite);
  CHECK(error_of(r.dw, g.w) <= 1e-5);
  CHECK(error_of(r.dbias, g.bias) <= 1e-5);
}
