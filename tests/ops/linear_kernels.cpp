// Each set of the CPU's kernels that this processor offers, called by itself.
#include "tests/ops/linear.h"

#include "cpu/gemm/packed.h"

using namespace ft;
using namespace ft::test;

namespace {

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
constexpr cpu::PairKernels kPlain{.rows = most_rows,
                                  .columns = 32,
                                  .product = plain_product<most_rows>,
                                  .enter = [] {},
                                  .leave = [] {}};

// f(kernels) for each kind that this machine has; of the others it is said that they are left out.
template <class Kernels, class F>
void for_kinds(const std::vector<std::pair<const char*, const Kernels*>>& kinds, F&& f) {
  for (const auto& [name, kernels] : kinds) {
    if (!kernels) {
      say_skipped(name);
      continue;
    }
    INFO(name);
    f(*kernels);
  }
}
std::vector<std::pair<const char*, const cpu::MicroKernels*>> fp32_kinds() {
  return {{"AVX2", &cpu::avx2_kernels()}, {"AVX-512", cpu::avx512_kernels()}};
}

}  // namespace

TEST_CASE("gemm equals its twin on every kind of bf16 kernel", "[gemm][bf16]") {
  Bench bench(backends().front());
  const std::vector<std::pair<const char*, const cpu::PairKernels*>> kinds = {
      {"plain, 32 rows", &kPlain<32>},
      {"plain, 12 rows", &kPlain<12>},
      {"AVX512_BF16", cpu::avx512_bf16_kernels()},
      {"AMX", cpu::amx_kernels()}};
  for_kinds(kinds, [&](const cpu::PairKernels& kernels) {
    check_gemm_sizes(Dtype::BF16, [&](const ops::Gemm& op) {
      bench.kernel([&] { cpu::multiply_pairs(op, kernels); });
    });
  });
}

TEST_CASE("gemm equals its twin on every kind of fp32 kernel", "[gemm]") {
  Bench bench(backends().front());
  for_kinds(fp32_kinds(), [&](const cpu::MicroKernels& kernels) {
    for (Dtype in : kBoth)
      check_gemm_sizes(in, [&](const ops::Gemm& op) {
        bench.kernel([&] { cpu::multiply_packed(op, kernels); });
      });
  });
}

// The small products of the scans and of attention: only what a shape promises to be wanted is
// written right.
TEST_CASE("small products equal plain loops on every kind of kernel", "[gemm]") {
  Bench bench(backends().front());
  for_kinds(fp32_kinds(), [&](const cpu::MicroKernels& kernels) {
    for (const auto shape :
         {cpu::Shape::Full, cpu::Shape::LowerResult, cpu::Shape::LowerLeft, cpu::Shape::UpperLeft})
      for (const int64_t n : {16, 32, 48, 80})
        for (const bool add : {false, true}) {
          INFO("shape " << static_cast<int>(shape) << ", " << n << ", add " << add);
          Buffer a(Dtype::F32, n, n, 3), b(Dtype::F32, n, n, 5), y(Dtype::F32, n, n, 7);
          a.random(1), b.random(2), y.random(3);
          for (int64_t i = 0; i < n; ++i)
            for (int64_t k = 0; k < n; ++k)
              if ((shape == cpu::Shape::LowerLeft && k > i) ||
                  (shape == cpu::Shape::UpperLeft && k < i))
                a.set(i * n + k, 0);
          Vector want = reference::gemm({n, n, n, false, false, 1}, a.values(), b.values(),
                                        add ? y.values() : Vector(static_cast<size_t>(n * n)));
          const Tensor at = *a, bt = *b, yt = *y;
          bench.kernel([&] {
            kernels.matmul[static_cast<int>(shape)](n, n, n, {at.f32(), at.stride[0], 1}, bt.f32(),
                                                    bt.stride[0], yt.f32(), yt.stride[0], add);
          });
          Vector got = y.values();
          for (int64_t i = 0; shape == cpu::Shape::LowerResult && i < n * n; ++i)
            if (i % n / cpu::kPanel > i / n / cpu::kPanel) got[i] = want[i] = 0;
          check_close("y", got, want, kTight);
          CHECK(y.gap_intact());
        }
  });
}
