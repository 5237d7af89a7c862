#include "app/machine/ranks.h"

#include "core/limits.h"
#include "cuda/device.h"

#include <fmt/format.h>

#include <unistd.h>

#include <cstdlib>
#include <fstream>

namespace ft {

namespace {

// One machine has one name, in each of its containers: cores are counted over the machine.
std::string machine_name() {
  std::string name;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> name;
  if (!name.empty()) return name;
  char host[256] = {};
  gethostname(host, sizeof host - 1);
  return host;
}

}  // namespace

DeviceKind device_of(const RunConfig& run, int ranks) {
  FT_CHECK_CONFIG(run.device != "cuda" || ranks == 1,
                  "run.device: cuda with {} ranks: training on several GPUs is not in this build; "
                  "start one rank, or set run.device to cpu",
                  ranks);
  const bool gpu =
      run.device == "cuda" || (run.device == "auto" && ranks == 1 && cuda::available());
  return gpu ? DeviceKind::Cuda : DeviceKind::Cpu;
}

Ranks ranks_of(World& world, const RunConfig& run) {
  const Limits here = read_limits();
  const std::string name = machine_name() + "|";
  std::vector<RankCores> together;  // cores of each rank of this machine
  for (const std::string& one : gather_text(world.all(), name + core_ranges(here.cores)))
    if (one.starts_with(name)) together.push_back({parse_core_ranges(one.substr(name.size()))});
  const Threads mine = choose_threads(run.threads, std::getenv("OMP_NUM_THREADS"), here, together);
  Ranks r{.count = world.all().size(), .threads = mine.count};
  r.most = static_cast<int>(all_max(world.all(), int64_t{mine.count}));
  const auto least = static_cast<int>(-all_max(world.all(), -int64_t{mine.count}));
  r.device = device_of(run, r.count);
  r.memory =
      -all_max(world.all(), -(r.device == DeviceKind::Cuda
                                  ? cuda::memory(world.local_rank())
                                  : memory_of_each(here, static_cast<int>(together.size()))));
  r.words = least == r.most ? fmt::format("{} a rank ({})", mine.count, mine.from)
                            : fmt::format("{} to {} a rank (rank 0: {}, {})", least, r.most,
                                          mine.count, mine.from);
  return r;
}

Ranks planned_ranks(const RunConfig& run, int count) {
  const Threads each = choose_threads(run.threads, count);
  const DeviceKind device = device_of(run, count);
  return {
      .count = count,
      .threads = each.count,
      .memory = device == DeviceKind::Cuda ? cuda::memory(0) : memory_of_each(read_limits(), count),
      .device = device,
      .words = fmt::format("{} a rank ({})", each.count, each.from)};
}

}  // namespace ft
