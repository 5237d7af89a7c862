#include "app/ceiling.h"

#include "core/context.h"

#include <omp.h>

#include <chrono>
#include <limits>

namespace ft {

namespace {

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace

double sgemm_speed(Device& device, Group& all) {
  if (device.kind() != DeviceKind::Cpu) return std::numeric_limits<double>::quiet_NaN();
  constexpr int64_t kSide = 1024;
  constexpr double kEnough = 0.25;  // seconds
  // Rows for all threads: a product is shared out in tiles (cpu/gemm.cpp).
  const int64_t rows = kSide * ((omp_get_max_threads() + 3) / 4);
  Memory memory(device, false);
  Scratch scratch;
  Ctx c(device, scratch, true);
  const Tensor a = memory.make("a", Dtype::F32, {rows, kSide});
  const Tensor b = memory.make("b", Dtype::F32, {kSide, kSide});
  const Tensor y = memory.make("y", Dtype::F32, {rows, kSide});
  c(ops::Fill{.y = a, .value = 1});
  c(ops::Fill{.y = b, .value = 0.5});
  all.barrier().wait();
  double fastest = std::numeric_limits<double>::infinity();
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < 2 || seconds_since(begin) < kEnough; ++i) {
    const ops::Gemm product{.y = y, .a = a, .b = b};
    const auto start = std::chrono::steady_clock::now();
    c(product);
    fastest = std::min(fastest, seconds_since(start));
  }
  return all_sum(all, 2.0 * static_cast<double>(rows * kSide * kSide) / fastest);
}

}  // namespace ft
