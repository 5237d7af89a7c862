// CrossEntropy against the twin: loss, z and the gradient in the logits' place.
#include "tests/catch.h"

#include "core/ops.h"
#include "tests/reference/array.h"
#include "tests/reference/loss.h"

#include <omp.h>

using namespace ft;
using reference::Array;

namespace {

struct Run {
  int64_t T, V, padded;
  Array logits, loss, z, inv_count;
  std::vector<int32_t> labels;
  reference::CrossEntropy twin;

  Run(int64_t rows, int64_t vocab, int64_t columns, Dtype dtype, double z_loss, double size = 4)
      : T(rows),
        V(vocab),
        padded(columns),
        logits(T, padded, dtype, 0),
        loss(1, T),
        z(1, T),
        inv_count(1, 1),
        labels(T) {
    std::mt19937_64 random(21);
    logits.fill(random, size), inv_count.fill(random, 0, 0.125);
    for (int64_t t = 0; t < T; ++t)
      labels[t] = t % 5 == 3 ? (t % 2 ? -100 : -1)
                             : static_cast<int32_t>(random() % static_cast<uint64_t>(V));
    twin = {V, padded, logits.values, labels, z_loss, 0.125};
  }
  void run(bool gradient) {
    ops::CrossEntropy op{.loss = loss.flat(),
                         .z = z.flat(),
                         .logits = InOut(logits.tensor()),
                         .labels = Tensor(labels.data(), Dtype::I32, {T}),
                         .vocab = V,
                         .z_loss = static_cast<float>(twin.z_loss)};
    if (gradient) op.inv_count = In(inv_count.flat());
    cpu::run(op, {});
  }
};

void check(int64_t T, int64_t V, int64_t padded, Dtype dtype, double z_loss, double size = 4) {
  Run r(T, V, padded, dtype, z_loss, size);
  INFO("T " << T << " vocab " << V << " of " << padded << " z_loss " << z_loss << " size " << size);
  const Array before = r.logits;
  std::vector<double> loss, z;
  for (int64_t t = 0; t < T; ++t) loss.push_back(r.twin.loss(t)), z.push_back(r.twin.z(t));
  r.run(false);
  CHECK(r.logits.same_bits(before));
  CHECK(r.loss.error(loss) <= 1e-5);
  CHECK(r.z.error(z) <= 1e-5);
  r.run(true);
  CHECK(r.loss.error(loss) <= 1e-5);
  std::vector<double> want(
      r.twin.logits.size());  // differences of one row at a time: other rows do not move
  for (int64_t t = 0; t < T; ++t) {
    const std::vector<double> row(r.twin.logits.begin() + t * padded,
                                  r.twin.logits.begin() + (t + 1) * padded);
    reference::CrossEntropy one{V, padded, row, {r.labels[t]}, z_loss, r.twin.inv_count};
    const std::vector<double> d = reference::differences(one.logits, [&] { return one.total(); });
    std::copy(d.begin(), d.end(), want.begin() + t * padded);
  }
  CHECK(r.logits.error(want) <= (dtype == Dtype::F32 ? 1e-5 : 2e-2));
  for (int64_t t = 0; t < T; ++t)
    for (int64_t c = r.labels[t] < 0 ? 0 : V; c < padded; ++c) REQUIRE(r.logits.at(t, c) == 0);
}

}  // namespace

TEST_CASE("cross-entropy: loss, z and gradient", "[loss]") {
  for (const int64_t T : {1, 2, 3, 17, 64})
    for (const Dtype dtype : {Dtype::F32, Dtype::BF16})
      for (const double z_loss : {0.0, 0.01}) {
        check(T, 1, 1, dtype, z_loss);
        check(T, 50, 50, dtype, z_loss);
        check(T, 61, 64, dtype, z_loss);
        check(T, 2, 16, dtype, z_loss);
      }
}

TEST_CASE("cross-entropy: large logits do not overflow, small ones vanish", "[loss]") {
  check(7, 50, 64, Dtype::F32, 0, 60);
  Run r(1, 4, 4, Dtype::F32, 0);
  const float x[4] = {1e4f, -1e4f, 3e38f, 0};
  std::memcpy(r.logits.memory.data(), x, sizeof(x));
  r.labels = {2};
  r.run(true);
  CHECK(r.loss.at(0, 0) == 0);
  CHECK(std::abs(r.logits.at(0, 2)) < 1e-7);
}

TEST_CASE("cross-entropy: a NaN stays visible", "[loss]") {
  Run r(3, 50, 50, Dtype::F32, 0);
  const float nan = std::nanf("");
  std::memcpy(r.logits.memory.data() + (50 + 7) * 4, &nan, 4);
  r.run(true);
  CHECK(std::isnan(r.loss.at(0, 1)));
  CHECK(std::isfinite(r.loss.at(0, 0)));
  CHECK(std::isfinite(r.loss.at(0, 2)));
}

TEST_CASE("cross-entropy: a large vocabulary keeps its precision", "[loss]") {
  Run r(3, 130049, 130112, Dtype::F32, 1e-4, 3);
  r.run(true);
  for (int64_t t = 0; t < 3; ++t)
    CHECK(std::abs(r.loss.at(0, t) - r.twin.loss(t)) < 1e-5 * (1 + r.twin.loss(t)));
}

TEST_CASE("cross-entropy: the same bits with one thread and with two", "[loss]") {
  const int before = omp_get_max_threads();
  omp_set_num_threads(1);
  Run one(65, 61, 64, Dtype::F32, 0.01);
  one.run(true);
  omp_set_num_threads(2);
  Run two(65, 61, 64, Dtype::F32, 0.01);
  two.run(true);
  CHECK(two.logits.same_bits(one.logits));
  CHECK(two.loss.same_bits(one.loss));
  CHECK(two.z.same_bits(one.z));
  omp_set_num_threads(before);
}

TEST_CASE("cross-entropy refuses a vocabulary wider than the logits", "[loss]") {
  Run wide(3, 65, 64, Dtype::F32, 0);
  CHECK_THROWS_AS(wide.run(false), Error);
}
