// RopeTable and Rope against long double.
#include "tests/ops/case.h"

#include "tests/reference/attention_rope.h"

using namespace ft;
using namespace ft::test;

TEST_CASE("the rope table is rounded once, from small to huge theta and far positions", "[rope]") {
  FT_ON_EACH_BACKEND;
  for (const double theta : {1e4, 5e5, 1e11})
    for (const int64_t dim : {2, 8, 64, 128}) {
      const int64_t positions = 16384;
      Buffer table(Dtype::F32, positions, dim);
      run(ops::RopeTable{.table = *table, .theta = theta});
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

struct Shape {
  int64_t B, L, heads, dim;
  bool inverse = false;
  Dtype dtype = Dtype::F32;
  int64_t gap = 0;
  bool carried = false;
};

Buffer input(const Shape& s) {
  std::mt19937_64 random(3);
  return Buffer(s.dtype, s.B * s.L, s.heads * s.dim, s.gap).uniform(random);
}

Case case_of(const Shape& s) {
  const std::vector<int32_t> docs = documents(s.B, s.L, {2, s.L / 2}, s.carried);
  return {
      fmt::format("B {} L {} heads {} head_dim {} inverse {}", s.B, s.L, s.heads, s.dim, s.inverse),
      [s, docs] {
        Buffer x = input(s), table(Dtype::F32, s.B * s.L + 8, s.dim), starts(docs);
        run(ops::RopeTable{.table = *table, .theta = 1e11});
        run(ops::Rope{.x = InOut(*x),
                      .table = *table,
                      .docs = *starts,
                      .scale = 0.35f,
                      .inverse = s.inverse});
        return std::vector<Output>{{"x", x}, {"table", table}};
      },
      [s, docs] {
        return std::vector<Want>{
            {"x", reference::rope(input(s).values(), s.heads, s.dim, docs, 1e11, 0.35f, s.inverse),
             s.dtype == Dtype::F32 ? 1e-6 : 1e-2}};
      }};
}

}  // namespace

TEST_CASE("rope against long double", "[rope]") {
  FT_ON_EACH_BACKEND;
  for (const int64_t L : {1, 2, 3, 17, 64, 65, 130})
    for (const int64_t dim : {2, 8, 64})
      for (const bool inverse : {false, true})
        for (const bool carried : {false, true}) {
          check(case_of({2, L, 3, dim, inverse, Dtype::F32, 0, carried}));
          check(case_of({1, L, 1, dim, inverse, Dtype::F32, 5, carried}));
          check(case_of({2, L, 3, dim, inverse, Dtype::BF16, 3, carried}));
        }
}

TEST_CASE("the inverse of rope is its gradient", "[rope]") {
  FT_ON_EACH_BACKEND;
  std::mt19937_64 random(9);
  Buffer x(Dtype::F32, 12, 16), dy(x), table(Dtype::F32, 12, 8);
  x.uniform(random), dy.uniform(random);
  const std::vector<int32_t> docs = documents(1, 12, {5}, false);
  const Buffer starts(docs);
  const Vector dyv = dy.values();
  run(ops::RopeTable{.table = *table, .theta = 100});
  const Vector want = differences(
      [&](const Vector& v) { return dot(reference::rope(v, 2, 8, docs, 100, 0.75, false), dyv); },
      x.values());
  run(ops::Rope{
      .x = InOut(*dy), .table = *table, .docs = *starts, .scale = 0.75f, .inverse = true});
  CHECK(error_of(dy, want) < 1e-6);
}

TEST_CASE("rope: the same bits with one thread and with several", "[rope]") {
  FT_ON_EACH_BACKEND;
  check_threads(case_of({1, 130, 2, 16}));
}

TEST_CASE("rope: backends agree", "[rope][backends]") {
  for (const Dtype dtype : kBoth) check_backends(case_of({2, 17, 3, 8, false, dtype, 3, true}));
}

TEST_CASE("rope refuses an odd head_dim", "[rope]") {
  FT_ON_EACH_BACKEND;
  Buffer odd(Dtype::F32, 4, 7), x(Dtype::F32, 4, 14), whole(Dtype::F32, 4, 14),
      starts(std::vector<int32_t>(4, 0));
  x.fill(1);
  CHECK_THROWS_AS(run(ops::RopeTable{.table = *odd}), Error);
  CHECK_THROWS_AS(run(ops::Rope{.x = InOut(*x), .table = *odd, .docs = *starts}), Error);
  run(ops::RopeTable{.table = *whole});
  CHECK_NOTHROW(run(ops::Rope{.x = InOut(*x), .table = *whole, .docs = *starts}));
}
