#include "cpu/device.h"

#include "core/limits.h"
#include "cpu/common.h"
#include "cpu/gemm/pair_kernels.h"

#include <immintrin.h>
#include <omp.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <atomic>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <utility>

namespace ft::cpu {

namespace {

constexpr size_t kAlign = 128;
std::atomic<int64_t> g_growths{0}, g_workspaces{0};

// Memory, or null. Large blocks ask for huge pages: matrix products walk columns, a page a row.
void* aligned_memory(size_t bytes) {
  constexpr size_t kHuge = size_t{2} << 20;
  const size_t align = bytes >= 2 * kHuge ? kHuge : kAlign;
  void* memory = std::aligned_alloc(align, std::max(align, (bytes + align - 1) / align * align));
  if (memory && align == kHuge) madvise(memory, bytes, MADV_HUGEPAGE);  // a wish: may be refused
  return memory;
}

struct Buffer {
  void* memory = nullptr;
  size_t bytes = 0;
  ~Buffer() { drop(); }
  void drop() {
    std::free(std::exchange(memory, nullptr));
    g_workspaces -= static_cast<int64_t>(std::exchange(bytes, 0));
  }
};

// Numbers below the smallest normal one count as zero on every thread (later ones inherit it):
// Intel's processors need some hundred cycles for each operation that meets one, and the decays of
// SSD are full of them.
void flush_denormals() {
#pragma omp parallel
  _mm_setcsr(_mm_getcsr() | _MM_FLUSH_ZERO_ON | 0x0040);  // results; operands
}

const char* instruction_set() {
  if (amx_kernels()) return "AVX-512 with AMX";
  if (avx512_bf16_kernels()) return "AVX-512 with bf16";
  if (__builtin_cpu_supports("avx512f")) return "AVX-512";
  return __builtin_cpu_supports("avx2") ? "AVX2" : "SSE2";
}

std::string processor() {
  std::ifstream info("/proc/cpuinfo");
  std::string line;
  while (std::getline(info, line))
    if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
  return "unknown processor";
}

// Its work is done when it is handed over.
struct CpuEvent : Event {
  void record(Stream) override {}
  void hold(Stream) override {}
  void wait() override {}
};

}  // namespace

void* workspace(int slot, size_t bytes) {
  thread_local Buffer buffers[WorkspaceNeed::kSlots];
  Buffer& b = buffers[slot];
  if (b.bytes < bytes) {
    b.drop();
    b.memory = aligned_memory(bytes);
    FT_CHECK(b.memory,
             "out of memory: {} bytes of workspace; use a smaller micro_batch or sequence", bytes);
    b.bytes = bytes;
    g_workspaces += static_cast<int64_t>(bytes);
    ++g_growths;
  }
  return b.memory;
}

int64_t workspace_growths() { return g_growths; }
int64_t workspace_bytes() { return g_workspaces; }

void use_threads(int threads) {
  FT_CHECK_CONFIG(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"),
                  "this processor has no AVX2; falcon-train's CPU backend needs AVX2 and FMA");
  omp_set_dynamic(0);
  omp_set_num_threads(threads > 0 ? threads : choose_threads(0, 0).count);
  flush_denormals();
}

std::string description() { return processor() + ", " + instruction_set(); }

int64_t CpuDevice::memory_taken() const {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<int64_t>(usage.ru_maxrss) * 1024;  // Linux counts KiB
}

CpuDevice::CpuDevice() : memory_(memory_of_each(read_limits(), 1)) {}

void* CpuDevice::allocate(size_t bytes) {
  void* memory = allocate_host(bytes);
  std::memset(memory, 0, bytes);
  ++allocations_;
  return memory;
}

void CpuDevice::release(void* memory) { std::free(memory); }

void* CpuDevice::allocate_host(size_t bytes) {
  void* memory = aligned_memory(bytes);
  FT_CHECK(
      memory,
      "out of memory: {} bytes asked for on the CPU; use fewer ranks a node or a smaller model",
      bytes);
  return memory;
}

void CpuDevice::release_host(void* memory) { std::free(memory); }

std::unique_ptr<Event> CpuDevice::event() { return std::make_unique<CpuEvent>(); }

void CpuDevice::copy(void* to, const void* from, size_t bytes, Stream) {
  std::memcpy(to, from, bytes);
}

void CpuDevice::copy_rows(void* to, size_t to_pitch, const void* from, size_t from_pitch,
                          size_t row_bytes, size_t rows, Stream) {
  if (to_pitch == row_bytes && from_pitch == row_bytes) row_bytes *= rows, rows = rows > 0;
  for (size_t r = 0; r < rows; ++r)
    std::memcpy(static_cast<char*>(to) + r * to_pitch,
                static_cast<const char*>(from) + r * from_pitch, row_bytes);
}

}  // namespace ft::cpu
