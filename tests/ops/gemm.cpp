// Matrix products against their twin in double: every form, strided views, odd sizes, both dtypes,
// and each set of kernels that this processor offers.
#include "tests/ops/cases.h"

#include "cpu/gemm_panels.h"
#include "tests/reference/gemm.h"

using namespace ft;
using namespace ft::test;

namespace {

constexpr Dtype kBoth[] = {Dtype::F32, Dtype::BF16};

void run(const ops::Gemm& op) { cpu::run(op, Stream{}); }

struct GemmCase {
  int64_t M, N, K;
  bool trans_a, trans_b, residual, accumulate;
  float alpha;
};

// The residual in y's own dtype, which is what a step hands over, and in the other one.
enum class Residual { Own, Other };

void check_one(const GemmCase& c, Dtype in, Dtype out, Residual kind,
               const std::function<void(const ops::Gemm&)>& product) {
  INFO("gemm " << c.M << " " << c.N << " " << c.K << " trans " << c.trans_a << c.trans_b
               << " residual " << c.residual << (kind == Residual::Own ? " own" : " other")
               << " accumulate " << c.accumulate << " " << name_of(in) << " to " << name_of(out));
  Buffer a(in, c.trans_a ? c.K : c.M, c.trans_a ? c.M : c.K, 3),
      b(in, c.trans_b ? c.N : c.K, c.trans_b ? c.K : c.N, 5);
  const Dtype other = (out == Dtype::F32) == (kind == Residual::Own) ? Dtype::F32 : Dtype::BF16;
  Buffer y(out, c.M, c.N, 7), r(other, c.M, c.N, 1);
  a.random(1), b.random(2), y.random(3), r.random(4);
  Vector added(static_cast<size_t>(c.M * c.N));
  for (int64_t i = 0; i < c.M * c.N; ++i)
    added[i] = (c.accumulate ? y.get(i) : 0) + (c.residual ? r.get(i) : 0);
  const Vector want = reference::gemm({c.M, c.N, c.K, c.trans_a, c.trans_b, c.alpha}, a.values(),
                                      b.values(), added);
  product(ops::Gemm{.y = *y,
                    .a = *a,
                    .b = *b,
                    .trans_a = c.trans_a,
                    .trans_b = c.trans_b,
                    .alpha = c.alpha,
                    .residual = c.residual ? std::optional<In>(*r) : std::nullopt,
                    .grad = c.accumulate ? Grad::Accumulate : Grad::Overwrite});
  check_close("y", y, want, tolerance(out));
}

void check_gemm(const GemmCase& c, Dtype in, Dtype out,
                const std::function<void(const ops::Gemm&)>& product = run) {
  check_one(c, in, out, Residual::Own, product);
  if (c.residual) check_one(c, in, out, Residual::Other, product);
}

// Sizes around the edges of every kernel, and sums that are stored between depths and between
// chunks of the right factor.
void check_sizes(Dtype in, const std::function<void(const ops::Gemm&)>& product) {
  for (Dtype out : kBoth)
    for (int form = 0; form < 16; ++form) {
      const bool ta = form & 1, tb = form & 2, residual = form & 4, accumulate = form & 8;
      const auto check = [&](int64_t M, int64_t N, int64_t K, float alpha) {
        check_gemm({M, N, K, ta, tb, residual, accumulate, alpha}, in, out, product);
      };
      check(1, 1, 1, 1.0f);
      check(5, 7, 11, -0.375f);
      check(37, 33, 31, 1.0f);
      check(32, 64, 64, 0.5f);
      check(33, 70, 130, 2.0f);
      if (form < 4 && out == Dtype::F32) check(163, 41, 1100, 1.0f);
      if (form < 4 && out == Dtype::F32) check(3, 1040, 4200, 1.0f);
      if (form >= 4) check(19, 40, 700, 1.0f);
    }
}

void say_skipped(const char* kind) {
  WARN(kind << ": not on this machine: skipped");  // shown though the test passes
}

// Pair kernels in plain code, for processors without bf16 products: packing and cutting are the
// same. They check what kernels are promised, too.
template <int most_rows>
void plain_product(int64_t rows, int64_t depth, cpu::LeftPairs a, const cpu::Pair* b, float alpha,
                   const float* add, int64_t add_stride, float* to, int64_t to_stride) {
  const auto low = [](cpu::Pair p) { return std::bit_cast<float>(p << 16); };
  const auto high = [](cpu::Pair p) { return std::bit_cast<float>(p & 0xffff0000u); };
  REQUIRE(rows <= most_rows);
  REQUIRE(depth % cpu::kPairUnit == 0);
  REQUIRE(a.step == 1);
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < 32; ++j) {
      float sum = 0;
      for (int64_t k = 0; k < depth; ++k) {
        const cpu::Pair x = a.data[i * a.row + k], y = b[k * 32 + j];
        sum += low(x) * low(y) + high(x) * high(y);
      }
      to[i * to_stride + j] = alpha * sum + (add ? add[i * add_stride + j] : 0.0f);
    }
}
template <int most_rows>
constexpr cpu::PairPanels kPlain{.rows = most_rows,
                                 .columns = 32,
                                 .product = plain_product<most_rows>,
                                 .enter = [] {},
                                 .leave = [] {}};

}  // namespace

TEST_CASE("gemm equals its twin on every kind of bf16 kernel", "[gemm][bf16]") {
  const std::pair<const char*, const cpu::PairPanels*> kinds[] = {
      {"plain, 32 rows", &kPlain<32>},
      {"plain, 12 rows", &kPlain<12>},
      {"AVX512_BF16", cpu::avx512_bf16_panels()},
      {"AMX", cpu::amx_panels()}};
  for (const auto& [name, kernels] : kinds) {
    if (!kernels) {
      say_skipped(name);
      continue;
    }
    INFO(name);
    check_sizes(Dtype::BF16, [&](const ops::Gemm& op) { cpu::multiply_pairs(op, *kernels); });
  }
}

TEST_CASE("gemm equals its twin on every kind of fp32 kernel", "[gemm]") {
  const std::pair<const char*, const cpu::Panels*> kinds[] = {{"AVX2", &cpu::avx2_panels()},
                                                              {"AVX-512", cpu::avx512_panels()}};
  for (const auto& [name, kernels] : kinds) {
    if (!kernels) {
      say_skipped(name);
      continue;
    }
    INFO(name);
    for (Dtype in : kBoth)
      check_sizes(in, [&](const ops::Gemm& op) { cpu::multiply_panels(op, *kernels); });
  }
}

// The small products of the scans and of attention: only what a shape promises to be wanted is
// written right.
TEST_CASE("small products equal plain loops on every kind of kernel", "[gemm]") {
  const std::pair<const char*, const cpu::Panels*> kinds[] = {{"AVX2", &cpu::avx2_panels()},
                                                              {"AVX-512", cpu::avx512_panels()}};
  for (const auto& [name, kernels] : kinds) {
    if (!kernels) {
      say_skipped(name);
      continue;
    }
    for (const auto shape :
         {cpu::Shape::Full, cpu::Shape::LowerResult, cpu::Shape::LowerLeft, cpu::Shape::UpperLeft})
      for (const int64_t n : {16, 32, 48, 80})
        for (const bool add : {false, true}) {
          INFO(name << " shape " << static_cast<int>(shape) << ", " << n << ", add " << add);
          Buffer a(Dtype::F32, n, n, 3), b(Dtype::F32, n, n, 5), y(Dtype::F32, n, n, 7);
          a.random(1), b.random(2), y.random(3);
          for (int64_t i = 0; i < n; ++i)
            for (int64_t k = 0; k < n; ++k)
              if ((shape == cpu::Shape::LowerLeft && k > i) ||
                  (shape == cpu::Shape::UpperLeft && k < i))
                a.set(i * n + k, 0);
          Vector want = reference::gemm({n, n, n, false, false, 1}, a.values(), b.values(),
                                        add ? y.values() : Vector(static_cast<size_t>(n * n)));
          kernels->matmul[static_cast<int>(shape)](n, n, n, {(*a).f32(), (*a).stride[0], 1},
                                                   (*b).f32(), (*b).stride[0], (*y).f32(),
                                                   (*y).stride[0], add);
          Vector got = y.values();
          for (int64_t i = 0; shape == cpu::Shape::LowerResult && i < n * n; ++i)
            if (i % n / cpu::kPanel > i / n / cpu::kPanel) got[i] = want[i] = 0;
          check_close("y", got, want, kTight);
          CHECK(y.gap_intact());
        }
  }
}

TEST_CASE("gemm equals its twin in every form", "[gemm]") {
  for (Dtype in : kBoth)
    for (Dtype out : kBoth)
      for (int form = 0; form < 16; ++form) {
        const bool ta = form & 1, tb = form & 2, residual = form & 4, accumulate = form & 8;
        check_gemm({5, 7, 11, ta, tb, residual, accumulate, 1.0f}, in, out);
        check_gemm({1, 33, 19, ta, tb, residual, accumulate, -0.375f}, in, out);
        check_gemm({37, 1, 1, ta, tb, residual, accumulate, 2.0f}, in, out);
      }
}

TEST_CASE("gemm equals its twin across tile edges", "[gemm]") {
  for (Dtype in : kBoth)
    for (int form = 0; form < 4; ++form)
      check_gemm({259, 300, 65, (form & 1) != 0, (form & 2) != 0, form == 1, form == 2, 0.5f}, in,
                 Dtype::F32);
}

TEST_CASE("gemm equals its twin where sums are stored between depths", "[gemm]") {
  for (Dtype in : kBoth)
    for (Dtype out : kBoth)
      for (int form = 0; form < 4; ++form) {
        const bool ta = form & 1, tb = form & 2;
        check_gemm({35, 50, 700, ta, tb, form == 1, form == 2, 0.5f}, in, out);
        check_gemm({17, 1040, 2500, ta, tb, form == 2, form == 1, 1.0f}, in, out);  // two chunks
      }
}

TEST_CASE("gemm may add its own output and refuses shapes that do not fit", "[gemm]") {
  Buffer a(Dtype::BF16, 6, 8), b(Dtype::BF16, 9, 8), y(Dtype::BF16, 6, 9, 2);
  a.random(1), b.random(2), y.random(3);
  const Vector want = reference::gemm({6, 9, 8}, a.values(), b.values(), y.values());
  run(ops::Gemm{.y = *y, .a = *a, .b = *b, .residual = *y});
  check_close("y", y, want, kLoose);
  CHECK_THROWS_AS(run(ops::Gemm{.y = *y, .a = *a, .b = *b, .trans_b = false}), Error);
}

TEST_CASE("gemm does not depend on the number of threads", "[gemm][threads]") {
  for (Dtype in : kBoth)
    for (auto [M, N, K] :
         {std::array<int64_t, 3>{513, 700, 129}, {1, 1025, 768}, {300, 24, 512}, {256, 512, 2048}})
      for (int form = 0; form < 4; ++form)
        check_threads(fmt::format("gemm {} {} {} {} form {}", M, N, K, name_of(in), form), [&] {
          const bool ta = form & 1, tb = form & 2;
          Buffer a(in, ta ? K : M, ta ? M : K), b(in, tb ? N : K, tb ? K : N),
              y(Dtype::F32, M, N, 4);
          a.random(1), b.random(2), y.fill(0);
          run(ops::Gemm{.y = *y, .a = *a, .b = *b, .trans_a = ta, .trans_b = tb});
          return std::vector<Buffer>{y};
        });
}
