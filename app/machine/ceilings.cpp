#include "app/machine/ceilings.h"

#include "core/context.h"
#include "core/limits.h"
#include "cpu/device.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <functional>

namespace ft {

namespace {

constexpr int64_t kProduct = 1536, kGpuProduct = 8192;  // rows and columns
constexpr size_t kCopyBytes = size_t{256} << 20;        // beyond any cache
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
  const int64_t n = memory.device().kind() == DeviceKind::Cuda ? kGpuProduct : kProduct;
  const Tensor a = memory.make("a", dtype, {n, n}), b = memory.make("b", dtype, {n, n}),
               y = memory.make("y", dtype, {n, n});
  return {.y = y, .a = a, .b = b};
}

// The product that is measured, with operands in place.
class Product {
 public:
  Product(Device& device, Dtype dtype)
      : memory_(device, false), c_(device, scratch_, true), product_(product_of(memory_, dtype)) {
    // Any numbers but equal ones, which cost a GPU less power and so less time.
    uint32_t state = 1;
    for (const Tensor& t : {product_.a, product_.b})
      memory_.transfer().fill(t, [&](int64_t, float* row) {
        for (int64_t i = 0; i < t.cols(); ++i) {
          state = state * 1664525u + 1013904223u;
          row[i] = static_cast<float>(state >> 8) * 0x1p-23f - 1;
        }
      });
  }
  void operator()() { c_(product_); }
  void finish() { c_.device.synchronize(); }
  double flops() const { return product_.flops(); }

 private:
  Memory memory_;
  Scratch scratch_;
  Ctx c_;
  ops::Gemm product_;
};

double product_flops(Device& device, Dtype dtype, double seconds) {
  Product product(device, dtype);
  return product.flops() / best_seconds(seconds, [&] { product(), product.finish(); });
}

double copy_rate_of_gpu(Device& gpu, double seconds) {
  constexpr size_t kBytes = size_t{2} << 30;
  Memory memory(gpu, false);
  void* from = memory.bytes("from", kBytes);
  void* to = memory.bytes("to", kBytes);
  const double best = best_seconds(seconds, [&] {
    gpu.copy(to, from, kBytes, {});
    gpu.synchronize();
  });
  return 2.0 * static_cast<double>(kBytes) / best;
}

double copy_rate(Device& device, double seconds) {
  char* from = static_cast<char*>(device.allocate_host(kCopyBytes));
  char* to = static_cast<char*>(device.allocate_host(kCopyBytes));
  std::memset(from, 0, kCopyBytes);  // pages that nobody wrote are all one
  const double best = best_seconds(seconds, [&] {
#pragma omp parallel for schedule(static)
    for (size_t at = 0; at < kCopyBytes; at += kCopyPart)
      std::memcpy(to + at, from + at, kCopyPart);
  });
  device.release_host(from), device.release_host(to);
  return 2.0 * static_cast<double>(kCopyBytes) / best;
}

}  // namespace

Ceiling measure_ceiling(int threads, Dtype dtype, double seconds) {
  const auto device = cpu::open_device(threads);
  return {threads, product_flops(*device, dtype, seconds), copy_rate(*device, seconds)};
}

Ceiling measure_gpu(Device& gpu, Dtype dtype, double seconds) {
  return {0, product_flops(gpu, dtype, seconds), copy_rate_of_gpu(gpu, seconds)};
}

std::vector<Ceiling> measure_ceilings(int threads, Dtype dtype, double seconds) {
  std::vector<Ceiling> all;
  for (int n = 1; n < threads; n *= 2) all.push_back(measure_ceiling(n, dtype, seconds));
  all.push_back(measure_ceiling(threads, dtype, seconds));
  return all;
}

double matrix_speed(Device& device, Group& all, Dtype dtype) {
  constexpr double kBlock = 0.05, kLeast = 1, kMost = 2, kAgree = 0.02;  // seconds, share
  using Clock = std::chrono::steady_clock;
  Product product(device, dtype);
  const auto timed = [&](int times) {
    all.barrier().wait();
    const auto begin = Clock::now();
    for (int i = 0; i < times; ++i) product();
    product.finish();
    return std::chrono::duration<double>(Clock::now() - begin).count();
  };
  timed(1);
  const int times = static_cast<int>(std::ceil(kBlock / all_max(all, timed(1))));
  std::vector<double> rates;  // of all ranks, falling; equal on each, so all end together
  const auto begin = Clock::now();
  for (;;) {
    const double rate = all_sum(all, times * product.flops() / timed(times));
    rates.insert(std::upper_bound(rates.begin(), rates.end(), rate, std::greater<>()), rate);
    const double spent = all_max(all, std::chrono::duration<double>(Clock::now() - begin).count());
    if (rates.size() < 3 || spent < kLeast) continue;
    if (rates[2] >= (1 - kAgree) * rates[0] || spent >= kMost) return rates[1];
  }
}

int64_t count_matrix_speed(Device& device, Dtype dtype, WorkspaceNeed& workspaces) {
  Memory memory(device, true);
  Scratch scratch;
  Ctx c(device, scratch, false);
  c(product_of(memory, dtype));
  workspaces.add(c.tally.workspaces);
  return memory.total();
}

int default_threads() { return choose_threads(0, 0).count; }

}  // namespace ft
