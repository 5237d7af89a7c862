// RopeTable and Rope against long double.
#include "tests/catch.h"

#include "core/ops.h"
#include "tests/reference/array.h"
#include "tests/reference/rope.h"

#include <omp.h>

using namespace ft;
using reference::Array;

TEST_CASE("the rope table is rounded once, from small to huge theta and far positions", "[rope]") {
  for (const double theta : {1e4, 5e5, 1e11})
    for (const int64_t dim : {2, 8, 64, 128}) {
      const int64_t positions = 16384;
      Array table(positions, dim);
      cpu::run(ops::RopeTable{.table = table.tensor(), .theta = theta}, {});
      double worst = 0;
      for (int64_t t = 0; t < positions; t += 1 + t / 64)
        for (int64_t j = 0; j < dim / 2; ++j) {
          const long double angle = reference::rope_angle(t, j, dim, theta);
          worst = std::max<double>(worst,
                                   std::abs(table.at(t, j) - static_cast<double>(std::cos(angle))));
          worst = std::max<double>(
              worst, std::abs(table.at(t, dim / 2 + j) - static_cast<double>(std::sin(angle))));
        }
      INFO("theta " << theta << " head_dim " << dim);
      CHECK(worst <=
            3.1e-8);  // half a unit in the last place next to 1, and the angle's own rounding
    }
}

namespace {

void check(int64_t B, int64_t L, int64_t heads, int64_t dim, bool inverse, Dtype dtype, int64_t gap,
           bool carried) {
  std::mt19937_64 random(3);
  Array x(B * L, heads * dim, dtype, gap), table(B * L + 8, dim);
  x.fill(random);
  std::vector<int32_t> docs = reference::documents(B, L, {2, L / 2}, carried);
  cpu::run(ops::RopeTable{.table = table.tensor(), .theta = 1e11}, {});
  cpu::run(ops::Rope{.x = InOut(x.tensor()),
                     .table = table.tensor(),
                     .docs = reference::docs_tensor(docs),
                     .scale = 0.35f,
                     .inverse = inverse},
           {});
  INFO("B " << B << " L " << L << " heads " << heads << " head_dim " << dim << " inverse "
            << inverse);
  CHECK(x.error(reference::rope(x.values, heads, dim, docs, 1e11, 0.35f, inverse)) <=
        (dtype == Dtype::F32 ? 1e-6 : 1e-2));
}

}  // namespace

TEST_CASE("rope against long double", "[rope]") {
  for (const int64_t L : {1, 2, 3, 17, 64, 65, 130})
    for (const int64_t dim : {2, 8, 64})
      for (const bool inverse : {false, true})
        for (const bool carried : {false, true}) {
          check(2, L, 3, dim, inverse, Dtype::F32, 0, carried);
          check(1, L, 1, dim, inverse, Dtype::F32, 5, carried);
          check(2, L, 3, dim, inverse, Dtype::BF16, 3, carried);
        }
}

TEST_CASE("the inverse of rope is its gradient", "[rope]") {
  std::mt19937_64 random(9);
  Array x(12, 16), dy(12, 16), table(12, 8);
  x.fill(random), dy.fill(random);
  std::vector<int32_t> docs = reference::documents(1, 12, {5}, false);
  cpu::run(ops::RopeTable{.table = table.tensor(), .theta = 100}, {});
  const auto loss = [&] {
    return reference::inner(reference::rope(x.values, 2, 8, docs, 100, 0.75, false), dy.values);
  };
  const std::vector<double> want = reference::differences(x.values, loss);
  cpu::run(ops::Rope{.x = InOut(dy.tensor()),
                     .table = table.tensor(),
                     .docs = reference::docs_tensor(docs),
                     .scale = 0.75f,
                     .inverse = true},
           {});
  CHECK(dy.error(want) < 1e-6);
}

TEST_CASE("rope: the same bits with one thread and with two", "[rope]") {
  const int before = omp_get_max_threads();
  std::vector<Array> results;
  for (const int threads : {1, 2}) {
    omp_set_num_threads(threads);
    std::mt19937_64 random(3);
    Array x(130, 32), table(130, 16);
    x.fill(random);
    std::vector<int32_t> docs(130, 0);
    cpu::run(ops::RopeTable{.table = table.tensor(), .theta = 1e11}, {});
    cpu::run(
        ops::Rope{
            .x = InOut(x.tensor()), .table = table.tensor(), .docs = reference::docs_tensor(docs)},
        {});
    results.push_back(x);
  }
  CHECK(results[0].same_bits(results[1]));
  omp_set_num_threads(before);
}

TEST_CASE("rope refuses an odd head_dim", "[rope]") {
  Array odd(4, 7), x(4, 14), whole(4, 14);
  std::vector<int32_t> docs(4, 0);
  const Tensor d = reference::docs_tensor(docs);
  CHECK_THROWS_AS(cpu::run(ops::RopeTable{.table = odd.tensor()}, {}), Error);
  CHECK_THROWS_AS(cpu::run(ops::Rope{.x = InOut(x.tensor()), .table = odd.tensor(), .docs = d}, {}),
                  Error);
  cpu::run(ops::RopeTable{.table = whole.tensor()}, {});
  CHECK_NOTHROW(
      cpu::run(ops::Rope{.x = InOut(x.tensor()), .table = whole.tensor(), .docs = d}, {}));
}
