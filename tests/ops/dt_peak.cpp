// DtPeak against the reference's dt, token by token.
#include "tests/catch.h"

#include "core/ops.h"
#include "tests/reference/array.h"
#include "tests/reference/ssd.h"

using namespace ft;
using reference::Array;

namespace {

struct Case {
  int64_t tokens, heads;
  double scale, low, high;
};

float peak_of(Array& dt, Array& bias, const Case& k, float start = 0) {
  float peak = start;
  cpu::run(ops::DtPeak{.peak = Tensor(&peak, Dtype::F32, {1}),
                       .dt = dt.tensor(),
                       .dt_bias = bias.flat(),
                       .dt_scale = static_cast<float>(k.scale),
                       .dt_min = static_cast<float>(k.low),
                       .dt_max = static_cast<float>(k.high)},
           Stream{});
  return peak;
}

}  // namespace

TEST_CASE("dt_peak is the largest dt of any token and head", "[ssd]") {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const Case cases[] = {{1, 1, 1, 0, kInfinity},     {7, 3, 0.5, 0, kInfinity},
                        {200, 24, -2, 0, kInfinity}, {65, 6, 30, 0, kInfinity},
                        {130, 5, 1.5, 0.1, 0.3},     {9, 2, 1, 3, 5}};
  for (const Case& k : cases)
    for (Dtype dtype : {Dtype::F32, Dtype::BF16}) {
      INFO(k.tokens << " tokens, " << k.heads << " heads, " << name_of(dtype));
      std::mt19937_64 random{3};
      Array dt(k.tokens, k.heads, dtype, 2), bias(1, k.heads);
      dt.fill(random), bias.fill(random, 1, -1);
      reference::Ssd twin{};
      twin.H = k.heads, twin.dt = dt.values, twin.dt_bias = bias.values;
      twin.dt_scale = k.scale, twin.dt_min = k.low, twin.dt_max = k.high;
      double want = 0;
      for (int64_t t = 0; t < k.tokens; ++t)
        for (int64_t h = 0; h < k.heads; ++h) want = std::max(want, twin.step(t, h));
      CHECK(std::abs(peak_of(dt, bias, k) - want) <= 1e-5 * want);
      CHECK(peak_of(dt, bias, k, 100) == 100);  // keeps what was larger
    }
}

TEST_CASE("dt_peak shows NaN", "[ssd]") {
  std::mt19937_64 random{3};
  Array dt(100, 4), bias(1, 4);
  dt.fill(random), bias.fill(random);
  static_cast<float*>(dt.tensor().data)[4 * 70 + 1] = std::nanf("");
  CHECK(std::isnan(peak_of(dt, bias, {100, 4, 1, 0, 1}, 5)));
}
