// Ssd and SsdGrad against the token-by-token twin; the twin's gradient against finite differences.
#include "tests/catch.h"

#include "core/ops.h"
#include "tests/reference/array.h"
#include "tests/reference/ssd.h"

#include <omp.h>

#include <optional>

using namespace ft;
using reference::Array;

namespace {

struct Shape {
  int64_t B = 1, L = 7, H = 6, P = 4, N = 5, G = 1, chunk = 4;
  std::vector<int64_t> starts{};  // of documents, in each sequence
  bool carried = false;           // the first document began in an earlier slice
  bool states = true;             // initial and final state with gradients
  double low = 0, high = std::numeric_limits<double>::infinity();
  double bias = -0.5, bias_spread = 1;  // of dt_bias: centre, and how far values lie from it
  double rate = 0, rate_spread = 0.7;   // of A_log
  double inputs = 1;                    // how far dt's inputs lie from 0
  int64_t gap = 0;
  Dtype dtype = Dtype::F32;
};

struct Run {
  Shape s;
  std::mt19937_64 random{17};
  int64_t T = s.B * s.L, per = s.H * s.P * s.N, chunks = (s.L + s.chunk - 1) / s.chunk;
  Array x, b, c, dt, dy, y, dx, db, dc, ddt;
  Array bias, a_log, d, dbias, da_log, dd, initial, dfinal, final, dinitial, states;
  std::vector<int32_t> docs;
  reference::Ssd twin;

  explicit Run(const Shape& shape)
      : s(shape),
        x(T, s.H * s.P, s.dtype, s.gap),
        b(T, s.G * s.N, s.dtype, s.gap),
        c(T, s.G * s.N, s.dtype, s.gap),
        dt(T, s.H, s.dtype, s.gap),
        dy(T, s.H * s.P, s.dtype, s.gap),
        y(T, s.H * s.P, s.dtype, s.gap),
        dx(T, s.H * s.P, s.dtype, s.gap),
        db(T, s.G * s.N, s.dtype, s.gap),
        dc(T, s.G * s.N, s.dtype, s.gap),
        ddt(T, s.H, s.dtype, s.gap),
        bias(1, s.H),
        a_log(1, s.H),
        d(1, s.H),
        dbias(1, s.H),
        da_log(1, s.H),
        dd(1, s.H),
        initial(s.B, per),
        dfinal(s.B, per),
        final(s.B, per),
        dinitial(s.B, per),
        states(s.B * chunks, per),
        docs(reference::documents(s.B, s.L, s.starts, s.carried)) {
    for (Array* a : {&x, &b, &c}) a->fill(random);
    dt.fill(random, s.inputs);
    for (Array* a : {&dy, &d, &initial, &dfinal}) a->fill(random);
    bias.fill(random, s.bias_spread, s.bias), a_log.fill(random, s.rate_spread, s.rate);
    for (Array* a : {&dbias, &da_log, &dd})
      a->fill(random, 0);  // zero: the first gradient accumulates
    twin = {s.B,         s.L,
            s.H,         s.P,
            s.N,         s.G,
            x.values,    b.values,
            c.values,    dt.values,
            bias.values, a_log.values,
            d.values,    s.states ? initial.values : std::vector<double>{},
            docs,        1.25,
            s.low,       s.high};
  }
  void forward() {
    ops::Ssd op{.y = y.tensor(),
                .states = states.tensor(),
                .x = x.tensor(),
                .b = b.tensor(),
                .c = c.tensor(),
                .dt = dt.tensor(),
                .dt_bias = bias.flat(),
                .a_log = a_log.flat(),
                .d = d.flat(),
                .docs = reference::docs_tensor(docs)};
    if (s.states) op.initial_state = In(initial.tensor()), op.final_state = Out(final.tensor());
    op.dt_scale = 1.25f, op.dt_min = static_cast<float>(s.low),
    op.dt_max = static_cast<float>(s.high);
    op.sequences = s.B, op.groups = s.G, op.state = s.N, op.chunk = s.chunk;
    cpu::run(op, {});
  }
  void backward(Grad grad = Grad::Accumulate) {
    ops::SsdGrad op{.dx = dx.tensor(),
                    .db = db.tensor(),
                    .dc = dc.tensor(),
                    .ddt = ddt.tensor(),
                    .ddt_bias = dbias.flat(),
                    .da_log = da_log.flat(),
                    .dd = dd.flat(),
                    .dy = dy.tensor(),
                    .x = x.tensor(),
                    .b = b.tensor(),
                    .c = c.tensor(),
                    .dt = dt.tensor(),
                    .dt_bias = bias.flat(),
                    .a_log = a_log.flat(),
                    .d = d.flat(),
                    .states = states.tensor(),
                    .docs = reference::docs_tensor(docs)};
    if (s.states) op.dfinal_state = In(dfinal.tensor()), op.dinitial_state = Out(dinitial.tensor());
    op.dt_scale = 1.25f, op.dt_min = static_cast<float>(s.low),
    op.dt_max = static_cast<float>(s.high);
    op.sequences = s.B, op.groups = s.G, op.state = s.N, op.chunk = s.chunk, op.grad = grad;
    cpu::run(op, {});
  }
};

void check(const Shape& shape) {
  Run r(shape);
  const double limit = shape.dtype == Dtype::F32 ? 1e-5 : 2e-2;
  INFO("B " << shape.B << " L " << shape.L << " G " << shape.G << " chunk " << shape.chunk << " P "
            << shape.P);
  r.forward();
  const reference::SsdValues v = reference::ssd(r.twin);
  CHECK(r.y.error(v.y) <= limit);
  if (shape.states) CHECK(r.final.error(v.final) <= 1e-5);
  r.backward();
  const reference::SsdGrads g = reference::ssd_grad(
      r.twin, r.dy.values, shape.states ? r.dfinal.values : std::vector<double>{});
  CHECK(r.dx.error(g.x) <= limit);
  CHECK(r.db.error(g.b) <= limit);
  CHECK(r.dc.error(g.c) <= limit);
  CHECK(r.ddt.error(g.dt) <= limit);
  CHECK(r.dbias.error(g.dt_bias) <= 1e-5);
  CHECK(r.da_log.error(g.a_log) <= 1e-5);
  CHECK(r.dd.error(g.d) <= 1e-5);
  if (shape.states) CHECK(r.dinitial.error(g.initial) <= 1e-5);
}

}  // namespace

TEST_CASE("the twin's gradient is that of finite differences", "[ssd]") {
  for (const bool carried : {false, true})
    for (const int64_t G : {1, 2, 3}) {
      Shape shape{.B = 2, .L = 7, .G = G, .starts = {3, 4}, .carried = carried};
      if (carried) shape.low = 0.35, shape.high = 0.7;
      Run r(shape);
      reference::Ssd& s = r.twin;
      const reference::SsdGrads g = reference::ssd_grad(s, r.dy.values, r.dfinal.values);
      const auto loss = [&] {
        const reference::SsdValues v = reference::ssd(s);
        return reference::inner(v.y, r.dy.values) + reference::inner(v.final, r.dfinal.values);
      };
      CHECK(reference::worst(g.x, reference::differences(s.x, loss)) < 1e-7);
      CHECK(reference::worst(g.b, reference::differences(s.b, loss)) < 1e-7);
      CHECK(reference::worst(g.c, reference::differences(s.c, loss)) < 1e-7);
      CHECK(reference::worst(g.dt, reference::differences(s.dt, loss)) < 1e-7);
      CHECK(reference::worst(g.dt_bias, reference::differences(s.dt_bias, loss)) < 1e-7);
      CHECK(reference::worst(g.a_log, reference::differences(s.a_log, loss)) < 1e-7);
      CHECK(reference::worst(g.d, reference::differences(s.d, loss)) < 1e-7);
      CHECK(reference::worst(g.initial, reference::differences(s.initial, loss)) < 1e-7);
    }
}

TEST_CASE("ssd: every length, chunk and number of groups", "[ssd]") {
  for (const int64_t L : {1, 2, 3, 7, 64, 65, 130})
    for (const int64_t chunk : {1, 4, 16, 64, 128})
      for (const int64_t G : {1, 2, 3}) check({.L = L, .G = G, .chunk = chunk, .carried = true});
}

TEST_CASE("ssd: documents at chunk edges, inside chunks and of one token", "[ssd]") {
  const std::vector<std::vector<int64_t>> layouts{
      {}, {16, 32}, {15, 17}, {5}, {7, 8, 9, 10, 40}, {16, 17, 63}, {69}, {0, 1, 2, 64}};
  for (const auto& starts : layouts)
    for (const int64_t chunk : {4, 16, 64, 128})
      for (const bool carried : {false, true})
        for (const int64_t B : {1, 3})
          check({.B = B, .L = 70, .G = 2, .chunk = chunk, .starts = starts, .carried = carried});
}

TEST_CASE("ssd: without states, with limits on dt, far along softplus", "[ssd]") {
  check({.L = 40, .chunk = 16, .states = false});
  check({.B = 2, .L = 40, .chunk = 16, .carried = true, .low = 0.35, .high = 0.7});
  check({.L = 40, .chunk = 16, .starts = {9}, .carried = true, .bias = 21});  // around and above 20
  check({.L = 40, .chunk = 16, .carried = true, .bias = -12});                // decays next to 1
}

// In the Euclidean norm, as whole models are judged.
double norm_error(const Array& got, const std::vector<double>& want) {
  double off = 0, size = 0;
  for (int64_t i = 0; i < got.rows * got.cols; ++i) {
    const double d = got.at(i / got.cols, i % got.cols) - want[i];
    off += d * d, size += want[i] * want[i];
  }
  return std::sqrt(off / (size > 0 ? size : 1));
}

TEST_CASE("ssd: gradients keep their digits at any chunk", "[ssd][digits]") {
  // A up to 24 in each case. dt as at the start of the released models (0.001 to 0.1); dt up to 3; and
  // such that dt A adds up to ten thousands in a chunk while many neighbours see each other.
  const Shape start{.L = 400, .H = 12, .bias = -4.6, .bias_spread = 2.3};
  const Shape large{.L = 400, .H = 12, .bias = 1, .inputs = 1.5};
  const Shape huge{.L = 400, .H = 12, .bias = -2, .inputs = 30};
  const auto [name, values] = GENERATE_COPY(table<std::string, Shape>(
      {{"start values", start}, {"large dt", large}, {"huge sums", huge}}));
  const bool documents = GENERATE(false, true);
  Shape shape = values;
  shape.P = 8, shape.N = 16, shape.rate = shape.rate_spread = std::log(24) / 2;
  if (documents) shape.starts = {1, 37, 300, 301, 370};
  shape.carried = documents;
  const Run twin(shape);
  const reference::SsdGrads want =
      reference::ssd_grad(twin.twin, twin.dy.values, twin.dfinal.values);
  const reference::SsdValues values_of = reference::ssd(twin.twin);
  for (const int64_t chunk : {16, 32, 64, 128, 256}) {
    shape.chunk = chunk;
    INFO(name << ", chunk " << chunk << (documents ? ", documents" : ""));
    Run r(shape);
    r.forward(), r.backward();
    const std::pair<const char*, double> errors[] = {
        {"y", norm_error(r.y, values_of.y)},
        {"final", norm_error(r.final, values_of.final)},
        {"dx", norm_error(r.dx, want.x)},
        {"db", norm_error(r.db, want.b)},
        {"dc", norm_error(r.dc, want.c)},
        {"ddt", norm_error(r.ddt, want.dt)},
        {"ddt_bias", norm_error(r.dbias, want.dt_bias)},
        {"dA_log", norm_error(r.da_log, want.a_log)},
        {"dD", norm_error(r.dd, want.d)},
        {"dinitial", norm_error(r.dinitial, want.initial)}};
    for (const auto& [what, error] : errors) {
      INFO(what);
      CHECK(error <= 2e-6);
    }
  }
}

TEST_CASE("ssd: column views, wide heads, states and many heads", "[ssd]") {
  check({.B = 2, .L = 33, .chunk = 16, .starts = {12}, .carried = true, .gap = 3});
  check(
      {.L = 70, .H = 2, .P = 64, .N = 128, .chunk = 64, .starts = {30}, .carried = true, .gap = 5});
  check({.L = 40, .H = 9, .P = 17, .N = 33, .chunk = 32, .starts = {30}, .carried = true});
  check({.L = 40, .H = 1, .P = 1, .N = 1, .chunk = 32, .carried = true});
}

TEST_CASE("ssd: bf16", "[ssd]") {
  for (const int64_t L : {1, 7, 130})
    check({.B = 2,
           .L = L,
           .G = 2,
           .chunk = 64,
           .starts = {5, 70},
           .carried = true,
           .gap = 3,
           .dtype = Dtype::BF16});
}

TEST_CASE("ssd: the number of threads does not change a bit", "[ssd]") {
  const int before = omp_get_max_threads();
  Shape shape{.B = 2, .L = 100, .H = 9, .chunk = 32, .starts = {20, 50}, .carried = true};
  omp_set_num_threads(1);
  Run one(shape);
  one.forward(), one.backward();
  for (const int threads : {2, 3}) {
    omp_set_num_threads(threads);
    Run many(shape);
    many.forward(), many.backward();
    for (auto field : {&Run::y, &Run::states, &Run::final, &Run::dx, &Run::db, &Run::dc, &Run::ddt,
                       &Run::dbias, &Run::da_log, &Run::dd, &Run::dinitial})
      CHECK((one.*field).same_bits(many.*field));
  }
  omp_set_num_threads(before);
}

TEST_CASE("ssd: parameter gradients accumulate or overwrite", "[ssd]") {
  Run r({.L = 20, .chunk = 16});
  const reference::SsdGrads g = reference::ssd_grad(r.twin, r.dy.values, r.dfinal.values);
  r.forward(), r.backward(), r.backward();
  for (int64_t h = 0; h < r.s.H; ++h)
    CHECK(r.da_log.at(0, h) == Approx(2 * g.a_log[h]).epsilon(1e-4));
  r.backward(Grad::Overwrite);
  CHECK(r.da_log.error(g.a_log) <= 1e-5);
  CHECK(r.dd.error(g.d) <= 1e-5);
  CHECK(r.dbias.error(g.dt_bias) <= 1e-5);
}

TEST_CASE("ssd: a NaN among the decays shows in the heads that use it, and only there", "[ssd]") {
  Run run({.B = 1, .L = 40, .H = 2, .P = 4, .N = 3, .G = 1, .chunk = 16});
  run.a_log.flat().f32()[0] = std::numeric_limits<float>::quiet_NaN();
  run.forward();
  const Tensor y = run.y.tensor();
  for (int64_t p = 0; p < 8; ++p) CHECK(std::isnan(y.f32()[39 * y.stride[0] + p]) == (p < 4));
}
