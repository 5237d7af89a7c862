#include "app/train/memory_plan.h"

#include "app/machine/ceilings.h"
#include "cuda/device.h"

#include <omp.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

namespace ft {

namespace {

constexpr int64_t kKiB = 1024;
// What a run adds to the process as it starts, measured with GCC 12, glibc 2.36 and Open MPI 4.1:
// pages of code and data first touched by a step, its log, records and open files, mapped pages of
// token files (data/data_file.h bounds them), a rank's MPI, a thread's stack and small blocks.
constexpr int64_t kRunning = 6656 * kKiB, kMpi = 9216 * kKiB, kThread = 160 * kKiB;
// Of a GPU, by its context, loaded kernels and cuBLASLt: measured on an H200 with CUDA 13.0.
constexpr int64_t kCuda = int64_t{560} << 20;
constexpr int64_t kTokenBytes = 3 * sizeof(int32_t);  // of a batch: id, label, document

int64_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  int64_t size = 0, resident = 0;
  file >> size >> resident;
  return resident * sysconf(_SC_PAGE_SIZE);
}

// Before main, so that it is the same under a launcher and without one.
const int64_t g_at_start = resident_bytes();

// Host memory of batches: a step's, the next one, which is read meanwhile, and one of validation.
int64_t batches(const Config& config, int ranks) {
  int64_t rows = config.train.global_batch;
  for (const auto& ramp : config.schedule.batch_ramp) rows = std::max(rows, ramp[1]);
  const int64_t step = (rows + ranks - 1) / ranks;
  const int64_t validation = config.data.validation.empty() ? 0 : config.train.micro_batch;
  return (2 * step + validation) * config.data.sequence_length * kTokenBytes;
}

}  // namespace

MemoryLines memory_of_run(const Config& config, Engine& engine, int ranks) {
  MemoryLines lines = engine.memory().ledger();
  WorkspaceNeed workspaces = engine.workspaces();
  const int64_t measuring =
      config.log.mfu
          ? count_matrix_speed(engine.device(), precision_of(config.train).compute, workspaces)
          : 0;
  // Taken and given back before the rest is there.
  const int64_t before = measuring - engine.memory().total();
  if (before > 0) lines.emplace_back("speed measurement", before);
  if (engine.device().kind() == DeviceKind::Cuda) {
    lines.emplace_back("op workspaces", workspaces.total(cuda::kOpStreams));
    return lines;  // what follows is memory of the host
  }
  lines.emplace_back("op workspaces", workspaces.total(omp_get_max_threads()));
  lines.emplace_back("transfers", static_cast<int64_t>(Transfer::kBytes));
  lines.emplace_back("batches", batches(config, ranks));
  if (ranks > 1) lines.emplace_back("communication", engine.store().reduction_bytes(ranks));
  return lines;
}

std::pair<std::string, int64_t> memory_of_program(DeviceKind device, int ranks, int threads) {
  if (device == DeviceKind::Cuda) return {"CUDA, its libraries and kernels", kCuda};
  return {"program and libraries",
          g_at_start + kRunning + threads * kThread + (ranks > 1 ? kMpi : 0)};
}

MemoryLines memory_of_rank(const Config& config, Engine& engine, int ranks) {
  MemoryLines lines = memory_of_run(config, engine, ranks);
  lines.push_back(memory_of_program(engine.device().kind(), ranks, omp_get_max_threads()));
  return lines;
}

int64_t sum_of(const MemoryLines& lines) {
  int64_t sum = 0;
  for (const auto& [name, bytes] : lines) sum += bytes;
  return sum;
}

}  // namespace ft
