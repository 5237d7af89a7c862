// CrossEntropy against the twin: loss, z and the gradient in the logits' place.
#include "tests/ops/case.h"

#include "tests/reference/loss.h"

#include <algorithm>

using namespace ft;
using namespace ft::test;

namespace {

struct Shape {
  int64_t T, V, padded;  // rows; columns that exist, and all
  Dtype dtype;
  double z_loss, size = 4;
};

struct Run {
  Shape s;
  Buffer logits{s.dtype, s.T, s.padded}, loss{Dtype::F32, s.T}, z{loss}, inv_count{Dtype::F32, 1};
  Buffer labels{Dtype::I32, s.T};
  reference::CrossEntropy twin;

  explicit Run(const Shape& shape) : s(shape) {
    std::mt19937_64 random(21);
    logits.uniform(random, s.size), inv_count.uniform(random, 0, 0.125);
    twin = {s.V, s.padded, logits.values(), {}, s.z_loss, 0.125};
    for (int64_t t = 0; t < s.T; ++t)
      set_label(t, t % 5 == 3 ? (t % 2 ? -100 : -1)
                              : static_cast<int32_t>(random() % static_cast<uint64_t>(s.V)));
  }
  void set_label(int64_t t, int32_t label) {
    twin.labels.resize(static_cast<size_t>(s.T));
    twin.labels[static_cast<size_t>(t)] = label;
    labels.set(t, label);
  }
  void compute(bool gradient) {
    ops::CrossEntropy op{.loss = *loss,
                         .z = *z,
                         .logits = InOut(*logits),
                         .labels = *labels,
                         .vocab = s.V,
                         .z_loss = static_cast<float>(s.z_loss)};
    if (gradient) op.inv_count = *inv_count;
    run(op);
  }
};

// By differences of one row at a time: other rows do not move.
Vector gradient_of(const reference::CrossEntropy& twin) {
  Vector want;
  for (size_t t = 0; t < twin.labels.size(); ++t) {
    const auto from = twin.logits.begin() + static_cast<int64_t>(t) * twin.padded;
    reference::CrossEntropy one{twin.vocab,       twin.padded, Vector(from, from + twin.padded),
                                {twin.labels[t]}, twin.z_loss, twin.inv_count};
    const Vector d = differences(one.logits, [&] { return one.total(); });
    want.insert(want.end(), d.begin(), d.end());
  }
  return want;
}

// The logits' place holds the gradient.
Case case_of(const Shape& shape) {
  return {fmt::format("T {} vocab {} of {} z_loss {} size {}", shape.T, shape.V, shape.padded,
                      shape.z_loss, shape.size),
          [shape] {
            Run r(shape);
            r.compute(true);
            return std::vector<Output>{{"loss", r.loss}, {"z", r.z}, {"gradient", r.logits}};
          },
          [shape] {
            const Run r(shape);
            Vector loss, z;
            for (int64_t t = 0; t < shape.T; ++t)
              loss.push_back(r.twin.loss(t)), z.push_back(r.twin.z(t));
            return std::vector<Want>{
                {"loss", loss, 1e-5},
                {"z", z, 1e-5},
                {"gradient", gradient_of(r.twin), shape.dtype == Dtype::F32 ? 1e-5 : 2e-2}};
          }};
}

void check_shape(const Shape& shape) {
  const Case k = case_of(shape);
  check(k);
  Run r(shape);
  const Buffer before = r.logits;
  r.compute(false);
  CHECK(r.logits.same_bits(before));
  const std::vector<Want> want = k.want();
  CHECK(error_of(r.loss, want[0].values) <= 1e-5);
  CHECK(error_of(r.z, want[1].values) <= 1e-5);
  r.compute(true);
  for (int64_t t = 0; t < shape.T; ++t)
    for (int64_t c = r.twin.labels[t] < 0 ? 0 : shape.V; c < shape.padded; ++c)
      REQUIRE(r.logits.at(t, c) == 0);
}

}  // namespace

TEST_CASE("cross-entropy: loss, z and gradient", "[loss]") {
  FT_ON_EACH_BACKEND;
  for (const int64_t T : {1, 2, 3, 17, 64})
    for (const Dtype dtype : kBoth)
      for (const double z_loss : {0.0, 0.01}) {
        check_shape({T, 1, 1, dtype, z_loss});
        check_shape({T, 50, 50, dtype, z_loss});
        check_shape({T, 61, 64, dtype, z_loss});
        check_shape({T, 2, 16, dtype, z_loss});
      }
}

TEST_CASE("cross-entropy: large logits do not overflow, small ones vanish", "[loss]") {
  FT_ON_EACH_BACKEND;
  check_shape({7, 50, 64, Dtype::F32, 0, 60});
  Run r({1, 4, 4, Dtype::F32, 0});
  r.logits.assign({1e4f, -1e4f, 3e38f, 0});
  r.set_label(0, 2);
  r.compute(true);
  CHECK(r.loss.get(0) == 0);
  CHECK(std::abs(r.logits.at(0, 2)) < 1e-7);
}

TEST_CASE("cross-entropy: a NaN stays visible", "[loss]") {
  FT_ON_EACH_BACKEND;
  Run r({3, 50, 50, Dtype::F32, 0});
  r.logits.set(50 + 7, std::nan(""));
  r.compute(true);
  CHECK(std::isnan(r.loss.get(1)));
  CHECK(std::isfinite(r.loss.get(0)));
  CHECK(std::isfinite(r.loss.get(2)));
}

TEST_CASE("cross-entropy: a large vocabulary keeps its precision", "[loss]") {
  FT_ON_EACH_BACKEND;
  Run r({3, 130049, 130112, Dtype::F32, 1e-4, 3});
  r.compute(true);
  for (int64_t t = 0; t < 3; ++t)
    CHECK(std::abs(r.loss.get(t) - r.twin.loss(t)) < 1e-5 * (1 + r.twin.loss(t)));
}

TEST_CASE("cross-entropy: the same bits with one thread and with several", "[loss]") {
  FT_ON_EACH_BACKEND;
  check_threads(case_of({65, 61, 64, Dtype::F32, 0.01}));
}

TEST_CASE("cross-entropy: backends agree", "[loss][backends]") {
  for (const Dtype dtype : kBoth) check_backends(case_of({17, 61, 64, dtype, 0.01}));
}

TEST_CASE("cross-entropy refuses a vocabulary wider than the logits", "[loss]") {
  FT_ON_EACH_BACKEND;
  Run wide({3, 65, 64, Dtype::F32, 0});
  CHECK_THROWS_AS(wide.compute(false), Error);
}
