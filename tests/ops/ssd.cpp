// Ssd and SsdGrad against the token-by-token twin; the twin's gradient against finite differences.
#include "tests/ops/case.h"

#include "tests/reference/ssd.h"

using namespace ft;
using namespace ft::test;

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
  Buffer x{s.dtype, T, s.H*s.P, s.gap}, y{x}, dy{x}, dx{x};
  Buffer b{s.dtype, T, s.G*s.N, s.gap}, c{b}, db{b}, dc{b};
  Buffer dt{s.dtype, T, s.H, s.gap}, ddt{dt};
  Buffer bias{Dtype::F32, s.H}, a_log{bias}, d{bias}, dbias{bias}, da_log{bias}, dd{bias};
  Buffer initial{Dtype::F32, s.B, per}, dfinal{initial}, final{initial}, dinitial{initial};
  Buffer states{Dtype::F32, s.B* chunks, per};
  std::vector<int32_t> docs = documents(s.B, s.L, s.starts, s.carried);
  Buffer document_starts{docs};
  reference::Ssd twin;

  explicit Run(const Shape& shape) : s(shape) {
    for (Buffer* a : {&x, &b, &c}) a->uniform(random);
    dt.uniform(random, s.inputs);
    for (Buffer* a : {&dy, &d, &initial, &dfinal}) a->uniform(random);
    bias.uniform(random, s.bias_spread, s.bias), a_log.uniform(random, s.rate_spread, s.rate);
    for (Buffer* a : {&dbias, &da_log, &dd}) a->fill(0);  // the first gradient accumulates
    twin = {s.B,           s.L,
            s.H,           s.P,
            s.N,           s.G,
            x.values(),    b.values(),
            c.values(),    dt.values(),
            bias.values(), a_log.values(),
            d.values(),    s.states ? initial.values() : Vector{},
            docs,          1.25,
            s.low,         s.high};
  }
  ops::SsdInputs inputs() const {
    return {.x = *x,
            .b = *b,
            .c = *c,
            .dt = *dt,
            .dt_bias = *bias,
            .a_log = *a_log,
            .d = *d,
            .docs = *document_starts,
            .limits = {1.25f, static_cast<float>(s.low), static_cast<float>(s.high)},
            .sequences = s.B,
            .groups = s.G,
            .state = s.N,
            .chunk = s.chunk};
  }
  void forward() {
    ops::Ssd op{.in = inputs(), .y = *y, .states = *states};
    if (s.states) op.initial_state = *initial, op.final_state = *final;
    run(op);
  }
  void backward(Grad grad = Grad::Accumulate) {
    ops::SsdGrad op{.in = inputs(),
                    .states = *states,
                    .dy = *dy,
                    .dx = *dx,
                    .db = *db,
                    .dc = *dc,
                    .ddt = *ddt,
                    .ddt_bias = *dbias,
                    .da_log = *da_log,
                    .dd = *dd,
                    .grad = grad};
    if (s.states) op.dfinal_state = *dfinal, op.dinitial_state = *dinitial;
    run(op);
  }
  std::vector<Output> outputs() const {
    std::vector<Output> out{{"y", y},   {"states", states}, {"dx", dx},          {"db", db},
                            {"dc", dc}, {"ddt", ddt},       {"ddt_bias", dbias}, {"da_log", da_log},
                            {"dd", dd}};
    if (s.states) out.push_back({"final", final}), out.push_back({"dinitial", dinitial});
    return out;
  }
  // `tight`: of what is fp32 whatever the activations are.
  std::vector<Want> wanted(double limit, double tight, Norm norm) const {
    const reference::SsdValues v = reference::ssd(twin);
    const reference::SsdGrads g =
        reference::ssd_grad(twin, dy.values(), s.states ? dfinal.values() : Vector{});
    std::vector<Want> want{{"y", v.y, limit, norm},          {"dx", g.x, limit, norm},
                           {"db", g.b, limit, norm},         {"dc", g.c, limit, norm},
                           {"ddt", g.dt, limit, norm},       {"ddt_bias", g.dt_bias, tight, norm},
                           {"da_log", g.a_log, tight, norm}, {"dd", g.d, tight, norm}};
    if (s.states) {
      want.push_back({"final", v.final, tight, norm});
      want.push_back({"dinitial", g.initial, tight, norm});
    }
    return want;
  }
};

Case case_of(const Shape& shape) {
  return {
      fmt::format("B {} L {} G {} chunk {} P {}", shape.B, shape.L, shape.G, shape.chunk, shape.P),
      [shape] {
        Run r(shape);
        r.forward(), r.backward();
        return r.outputs();
      },
      [shape] {
        return Run(shape).wanted(shape.dtype == Dtype::F32 ? 1e-5 : 2e-2, 1e-5, Norm::Largest);
      }};
}

void check_shape(const Shape& shape) { check(case_of(shape)); }

}  // namespace

TEST_CASE("the twin's gradient is that of finite differences", "[ssd]") {
  for (const bool carried : {false, true})
    for (const int64_t G : {1, 2, 3}) {
      Shape shape{.B = 2, .L = 7, .G = G, .starts = {3, 4}, .carried = carried};
      if (carried) shape.low = 0.35, shape.high = 0.7;
      Run r(shape);
      reference::Ssd& s = r.twin;
      const reference::SsdGrads g = reference::ssd_grad(s, r.dy.values(), r.dfinal.values());
      const auto loss = [&] {
        const reference::SsdValues v = reference::ssd(s);
        return dot(v.y, r.dy.values()) + dot(v.final, r.dfinal.values());
      };
      CHECK(error_of(g.x, differences(s.x, loss)) < 1e-7);
      CHECK(error_of(g.b, differences(s.b, loss)) < 1e-7);
      CHECK(error_of(g.c, differences(s.c, loss)) < 1e-7);
      CHECK(error_of(g.dt, differences(s.dt, loss)) < 1e-7);
      CHECK(error_of(g.dt_bias, differences(s.dt_bias, loss)) < 1e-7);
      CHECK(error_of(g.a_log, differences(s.a_log, loss)) < 1e-7);
      CHECK(error_of(g.d, differences(s.d, loss)) < 1e-7);
      CHECK(error_of(g.initial, differences(s.initial, loss)) < 1e-7);
    }
}

TEST_CASE("ssd: every length, chunk and number of groups", "[ssd]") {
  FT_ON_EACH_BACKEND;
  for (const int64_t L : {1, 2, 3, 7, 64, 65, 130})
    for (const int64_t chunk : {1, 4, 16, 64, 128})
      for (const int64_t G : {1, 2, 3})
        check_shape({.L = L, .G = G, .chunk = chunk, .carried = true});
}

TEST_CASE("ssd: documents at chunk edges, inside chunks and of one token", "[ssd]") {
  FT_ON_EACH_BACKEND;
  const std::vector<std::vector<int64_t>> layouts{
      {}, {16, 32}, {15, 17}, {5}, {7, 8, 9, 10, 40}, {16, 17, 63}, {69}, {0, 1, 2, 64}};
  for (const auto& starts : layouts)
    for (const int64_t chunk : {4, 16, 64, 128})
      for (const bool carried : {false, true})
        for (const int64_t B : {1, 3})
          check_shape(
              {.B = B, .L = 70, .G = 2, .chunk = chunk, .starts = starts, .carried = carried});
}

TEST_CASE("ssd: without states, with limits on dt, far along softplus", "[ssd]") {
  FT_ON_EACH_BACKEND;
  check_shape({.L = 40, .chunk = 16, .states = false});
  check_shape({.B = 2, .L = 40, .chunk = 16, .carried = true, .low = 0.35, .high = 0.7});
  check_shape(
      {.L = 40, .chunk = 16, .starts = {9}, .carried = true, .bias = 21});  // around and above 20
  check_shape({.L = 40, .chunk = 16, .carried = true, .bias = -12});        // decays next to 1
}

TEST_CASE("ssd: gradients keep their digits at any chunk", "[ssd][digits]") {
  FT_ON_EACH_BACKEND;
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
  // In the Euclidean norm, as whole models are judged.
  const std::vector<Want> want = Run(shape).wanted(2e-6, 2e-6, Norm::Euclidean);
  for (const int64_t chunk : {16, 32, 64, 128, 256}) {
    shape.chunk = chunk;
    Case k = case_of(shape);
    k.name = fmt::format("{}, chunk {}{}", name, chunk, documents ? ", documents" : "");
    k.want = [&] { return want; };
    check(k);
  }
}

TEST_CASE("ssd: column views, wide heads, states and many heads", "[ssd]") {
  FT_ON_EACH_BACKEND;
  check_shape({.B = 2, .L = 33, .chunk = 16, .starts = {12}, .carried = true, .gap = 3});
  check_shape(
      {.L = 70, .H = 2, .P = 64, .N = 128, .chunk = 64, .starts = {30}, .carried = true, .gap = 5});
  check_shape({.L = 40, .H = 9, .P = 17, .N = 33, .chunk = 32, .starts = {30}, .carried = true});
  check_shape({.L = 40, .H = 1, .P = 1, .N = 1, .chunk = 32, .carried = true});
}

TEST_CASE("ssd: bf16", "[ssd]") {
  FT_ON_EACH_BACKEND;
  for (const int64_t L : {1, 7, 130})
    check_shape({.B = 2,
                 .L = L,
                 .G = 2,
                 .chunk = 64,
                 .starts = {5, 70},
                 .carried = true,
                 .gap = 3,
                 .dtype = Dtype::BF16});
}

TEST_CASE("ssd: bf16 in the shapes of tensor cores", "[ssd]") {
  FT_ON_EACH_BACKEND;
  // Their operands are bf16, so what is fp32 whatever the activations are has errors of bf16, too.
  Shape groups{.B = 2, .L = 200, .H = 4, .P = 64, .N = 64, .G = 2, .chunk = 64};
  groups.starts = {30, 64, 100, 101}, groups.carried = true;
  const Shape wide{.L = 150, .H = 2, .P = 128, .N = 256, .chunk = 128, .carried = true};
  const Shape narrow{.L = 300, .H = 2, .P = 32, .N = 16, .chunk = 256, .starts = {130}, .gap = 8};
  const Shape slow{.L = 67, .H = 2, .P = 32, .N = 80, .chunk = 64, .carried = true, .bias = -4};
  const Shape plain{
      .L = 150, .H = 3, .P = 64, .N = 48, .chunk = 128, .starts = {149}, .states = false};
  // So many states that a block walks along each sequence.
  const Shape walked{
      .L = 40, .H = 12, .P = 64, .N = 256, .chunk = 32, .starts = {20}, .carried = true};
  for (Shape shape : {groups, wide, narrow, slow, plain, walked}) {
    shape.dtype = Dtype::BF16;
    Case k = case_of(shape);
    k.want = [shape] { return Run(shape).wanted(2e-2, 8e-3, Norm::Largest); };
    check(k);
  }
}

TEST_CASE("ssd: the number of threads does not change a bit", "[ssd]") {
  FT_ON_EACH_BACKEND;
  check_threads(
      case_of({.B = 2, .L = 100, .H = 9, .chunk = 32, .starts = {20, 50}, .carried = true}));
}

TEST_CASE("ssd: backends agree", "[ssd][backends]") {
  for (const Dtype dtype : kBoth)
    for (const bool states : {false, true})
      check_backends(case_of({.B = 2,
                              .L = 70,
                              .G = 2,
                              .chunk = 16,
                              .starts = {9, 40},
                              .carried = true,
                              .states = states,
                              .gap = 3,
                              .dtype = dtype}));
}

TEST_CASE("ssd: parameter gradients accumulate or overwrite", "[ssd]") {
  FT_ON_EACH_BACKEND;
  Run r({.L = 20, .chunk = 16});
  const reference::SsdGrads g = reference::ssd_grad(r.twin, r.dy.values(), r.dfinal.values());
  r.forward(), r.backward(), r.backward();
  for (int64_t h = 0; h < r.s.H; ++h)
    CHECK(r.da_log.at(0, h) == Approx(2 * g.a_log[h]).epsilon(1e-4));
  r.backward(Grad::Overwrite);
  CHECK(error_of(r.da_log, g.a_log) <= 1e-5);
  CHECK(error_of(r.dd, g.d) <= 1e-5);
  CHECK(error_of(r.dbias, g.dt_bias) <= 1e-5);
}

TEST_CASE("ssd: a NaN among the decays shows in the heads that use it, and only there", "[ssd]") {
  FT_ON_EACH_BACKEND;
  Run r({.B = 1, .L = 40, .H = 2, .P = 4, .N = 3, .G = 1, .chunk = 16});
  r.a_log.set(0, std::numeric_limits<float>::quiet_NaN());
  r.forward();
  for (int64_t p = 0; p < 8; ++p) CHECK(std::isnan(r.y.at(39, p)) == (p < 4));
}
