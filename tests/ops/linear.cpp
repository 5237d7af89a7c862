// Matrix products and biases against their twins in double: every form, strided views, odd sizes, both dtypes.
// Each set of kernels by itself: linear_kernels.cpp.
#include "tests/ops/linear.h"

namespace ft::test {

namespace {

// A product, and what is added to it.
enum class Added : uint8_t { None, Residual, Y };

struct Product {
  int64_t M, N, K;
  bool trans_a, trans_b;
  Added added;
  float alpha;
  Dtype in, out;
};

struct Run {
  Product s;
  Buffer a{s.in, s.trans_a ? s.K : s.M, s.trans_a ? s.M : s.K, 3};
  Buffer b{s.in, s.trans_b ? s.N : s.K, s.trans_b ? s.K : s.N, 5};
  Buffer y{s.out, s.M, s.N, 7}, r{s.out, s.M, s.N, 1};

  explicit Run(const Product& product) : s(product) {
    a.random(1), b.random(2), y.random(3), r.random(4);
  }
  ops::Gemm op() const {
    return {.y = *y,
            .a = *a,
            .b = *b,
            .trans_a = s.trans_a,
            .trans_b = s.trans_b,
            .alpha = s.alpha,
            .residual = s.added == Added::Residual ? std::optional<In>(*r) : std::nullopt,
            .grad = s.added == Added::Y ? Grad::Accumulate : Grad::Overwrite};
  }
  Vector want() const {
    const Vector added = s.added == Added::None ? Vector{} : (s.added == Added::Y ? y : r).values();
    return reference::gemm({s.M, s.N, s.K, s.trans_a, s.trans_b, s.alpha}, a.values(), b.values(),
                           added);
  }
};

Case case_of(const Product& s, const Multiply& multiply) {
  return {fmt::format("gemm {} {} {} trans {}{} added {} {} to {}", s.M, s.N, s.K, s.trans_a,
                      s.trans_b, static_cast<int>(s.added), name_of(s.in), name_of(s.out)),
          [s, multiply] {
            Run r(s);
            multiply(r.op());
            return std::vector<Output>{{"y", r.y}};
          },
          [s] {
            return std::vector<Want>{{"y", Run(s).want(), tolerance(s.out), Norm::Euclidean}};
          }};
}

}  // namespace

void check_gemm_sizes(Dtype in, const Multiply& multiply) {
  for (Dtype out : kBoth)
    for (int form = 0; form < 12; ++form) {
      const bool ta = form & 1, tb = form & 2;
      const auto added = static_cast<Added>(form / 4);
      const auto check_one = [&](int64_t M, int64_t N, int64_t K, float alpha) {
        check(case_of({M, N, K, ta, tb, added, alpha, in, out}, multiply));
      };
      check_one(1, 1, 1, 1.0f);
      check_one(5, 7, 11, -0.375f);
      check_one(37, 33, 31, 1.0f);
      check_one(32, 64, 64, 0.5f);
      check_one(33, 70, 130, 2.0f);
      if (form < 4 && out == Dtype::F32) check_one(163, 41, 1100, 1.0f);
      if (form < 4 && out == Dtype::F32) check_one(3, 1040, 4200, 1.0f);
      if (form >= 4) check_one(19, 40, 700, 1.0f);
    }
}

}  // namespace ft::test

using namespace ft;
using namespace ft::test;

namespace {

void check_gemm(const Product& s) {
  check(case_of(s, [](const ops::Gemm& op) { run(op); }));
}

}  // namespace

TEST_CASE("gemm equals its twin in every form", "[gemm]") {
  FT_ON_EACH_BACKEND;
  for (Dtype in : kBoth)
    for (Dtype out : kBoth)
      for (int form = 0; form < 12; ++form) {
        const bool ta = form & 1, tb = form & 2;
        const auto added = static_cast<Added>(form / 4);
        check_gemm({5, 7, 11, ta, tb, added, 1.0f, in, out});
        check_gemm({1, 33, 19, ta, tb, added, -0.375f, in, out});
        check_gemm({37, 1, 1, ta, tb, added, 2.0f, in, out});
      }
}

namespace {

// Nothing, a residual or y is added in some of the forms.
Added added_at(int form, int residual, int y) {
  return form == residual ? Added::Residual : form == y ? Added::Y : Added::None;
}

}  // namespace

TEST_CASE("gemm equals its twin across tile edges", "[gemm]") {
  const Bench bench(backends().front());  // long: others in "backends agree"
  for (Dtype in : kBoth)
    for (int form = 0; form < 4; ++form)
      check_gemm({259, 300, 65, (form & 1) != 0, (form & 2) != 0, added_at(form, 1, 2), 0.5f, in,
                  Dtype::F32});
}

TEST_CASE("gemm equals its twin where sums are stored between depths", "[gemm]") {
  const Bench bench(backends().front());  // long: others in "backends agree"
  for (Dtype in : kBoth)
    for (Dtype out : kBoth)
      for (int form = 0; form < 4; ++form) {
        const bool ta = form & 1, tb = form & 2;
        check_gemm({35, 50, 700, ta, tb, added_at(form, 1, 2), 0.5f, in, out});
        check_gemm({17, 1040, 2500, ta, tb, added_at(form, 2, 1), 1.0f, in, out});  // two chunks
      }
}

TEST_CASE("gemm may add its own output and refuses what does not fit", "[gemm]") {
  FT_ON_EACH_BACKEND;
  Buffer a(Dtype::BF16, 6, 8), b(Dtype::BF16, 9, 8), y(Dtype::BF16, 6, 9, 2),
      wide(Dtype::F32, 6, 9);
  a.random(1), b.random(2), y.random(3), wide.random(4);
  const Vector want = reference::gemm({6, 9, 8}, a.values(), b.values(), y.values());
  run(ops::Gemm{.y = *y, .a = *a, .b = *b, .residual = *y});
  check_close("y", y, want, kLoose);
  CHECK_THROWS_AS(run(ops::Gemm{.y = *y, .a = *a, .b = *b, .trans_b = false}), Error);
  // One matrix of y's dtype is added, as matrix libraries have it.
  CHECK_THROWS_WITH(run(ops::Gemm{.y = *y, .a = *a, .b = *b, .residual = *wide}),
                    "test: gemm: residual is fp32 [6, 9], wanted bf16 [6, 9]");
  CHECK_THROWS_WITH(
      run(ops::Gemm{.y = *y, .a = *a, .b = *b, .residual = *y, .grad = Grad::Accumulate}),
      "test: gemm: a residual and y cannot both be added");
}

TEST_CASE("gemm does not depend on the number of threads", "[gemm][threads]") {
  const Bench bench(backends().front());  // long: others in "backends agree"
  for (Dtype in : kBoth)
    for (auto [M, N, K] :
         {std::array<int64_t, 3>{513, 700, 129}, {1, 1025, 768}, {300, 24, 512}, {256, 512, 2048}})
      for (int form = 0; form < 4; ++form)
        check_threads(
            case_of({M, N, K, (form & 1) != 0, (form & 2) != 0, Added::None, 1.0f, in, Dtype::F32},
                    [](const ops::Gemm& op) { run(op); }));
}

TEST_CASE("gemm: backends agree", "[gemm][backends]") {
  for (Dtype in : kBoth)
    for (const int64_t M : {1, 35})
      check_backends(case_of({M, 50, 700, false, true, Added::Residual, 0.5f, in, in},
                             [](const ops::Gemm& op) { run(op); }));
}

TEST_CASE("add_bias and its gradient", "[elementwise]") {
  FT_ON_EACH_BACKEND;
  for (Dtype dtype : kBoth)
    for (auto [T, C] : {std::array<int64_t, 2>{1, 1}, {5, 13}, {130, 3}, {9, 40}}) {
      const int64_t gap = gap_of(C);
      Buffer y(dtype, T, C, gap), bias(Dtype::F32, C), dy(dtype, T, C, gap), dbias(Dtype::F32, C);
      y.random(1), bias.random(2), dy.random(3), dbias.fill(1);
      const Vector yv = y.values(), dyv = dy.values();
      run(ops::AddBias{.y = *y, .bias = *bias, .scale = 0.5f});
      check_close("y", y, reference::add_bias(yv, bias.values(), 0.5), tolerance(dtype));
      run(ops::AddBiasGrad{.dbias = *dbias, .dy = *dy, .scale = 0.5f});
      Vector want =
          differences([&](const Vector& v) { return dot(reference::add_bias(yv, v, 0.5), dyv); },
                      bias.values());
      for (double& v : want) v += 1;
      check_close("dbias", dbias, want, kTight);
    }
}
