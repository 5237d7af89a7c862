#include "app/ceilings.h"

#include "core/context.h"

#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <limits>

namespace ft {

namespace {

constexpr int64_t kProduct = 1536;                // rows and columns
constexpr size_t kCopyBytes = size_t{256} << 20;  // beyond any cache
constexpr size_t kCopyPart = size_t{1} << 20;

double best_seconds(double budget, const std::function<void()>& work) {
  using Clock = std::chrono::steady_clock;
  work();
  double best = 1e30, total = 0;
  for (int i = 0; i < 3 || total < budget; ++i) {
    const auto begin = Clock::now();
    work();
    const double s = std::chrono::duration<double>(Clock::now() - begin).count();
    best = std::min(best, s), total += s;
  }
  return best;
}

// Operands of the product that is measured.
ops::Gemm product_of(Memory& memory, Dtype dtype) {
  const Tensor a = memory.make("a", dtype, {kProduct, kProduct}),
               b = memory.make("b", dtype, {kProduct, kProduct}),
               y = memory.make("y", dtype, {kProduct, kProduct});
  return {.y = y, .a = a, .b = b};
}

double product_flops(Device& device, Dtype dtype, double seconds) {
  Memory memory(device, false);
  Scratch scratch;
  Ctx c(device, scratch, true);
  const ops::Gemm product = product_of(memory, dtype);
  for (const Tensor& t : {product.a, product.b}) c(ops::Fill{.y = t, .value = 0.5});
  return product.flops() / best_seconds(seconds, [&] { c(product); });
}

double copy_rate(Device& device, double seconds) {
  char* from = static_cast<char*>(device.allocate(kCopyBytes));
  char* to = static_cast<char*>(device.allocate(kCopyBytes));
  const double best = best_seconds(seconds, [&] {
#pragma omp parallel for schedule(static)
    for (size_t at = 0; at < kCopyBytes; at += kCopyPart)
      std::memcpy(to + at, from + at, kCopyPart);
  });
  device.release(from), device.release(to);
  return 2.0 * static_cast<double>(kCopyBytes) / best;
}

}  // namespace

Ceiling measure_ceiling(int threads, Dtype dtype, double seconds) {
  const auto device = cpu::open_device(threads);
  return {threads, product_flops(*device, dtype, seconds), copy_rate(*device, seconds)};
}

std::vector<Ceiling> measure_ceilings(int threads, Dtype dtype, double seconds) {
  std::vector<Ceiling> all;
  for (int n = 1; n < threads; n *= 2) all.push_back(measure_ceiling(n, dtype, seconds));
  all.push_back(measure_ceiling(threads, dtype, seconds));
  return all;
}

double sgemm_speed(Device& device, Group& all) {
  if (device.kind() != DeviceKind::Cpu) return std::numeric_limits<double>::quiet_NaN();
  all.barrier().wait();
  return all_sum(all, product_flops(device, Dtype::F32, 0.25));
}

int64_t count_sgemm(Device& device, WorkspaceNeed& workspaces) {
  if (device.kind() != DeviceKind::Cpu) return 0;
  Memory memory(device, true);
  Scratch scratch;
  Ctx c(device, scratch, false);
  c(product_of(memory, Dtype::F32));
  workspaces.add(c.tally.workspaces);
  return memory.total();
}

int default_threads() {
  const auto device = cpu::open_device(0);
  return omp_get_max_threads();
}

}  // namespace ft
