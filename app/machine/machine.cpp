// What /proc, /sys and the process's limits say of the machine.
#include "app/machine/diagnose.h"

#include "app/machine/ranks.h"
#include "core/limits.h"
#include "cpu/device.h"

#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace ft {

namespace fs = std::filesystem;

namespace {

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// A file's number; 0 where there is none. Values beyond 63 bits mean that there is no limit.
int64_t number_of(const std::string& path) {
  const std::string line = first_line(path);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), value);
  return end != line.data() && error == std::errc() ? value : 0;
}

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

// Names of instruction sets that matter here, as the kernel reports them.
std::string instruction_sets() {
  std::ifstream file("/proc/cpuinfo");
  std::string line, found;
  while (std::getline(file, line)) {
    if (line.rfind("flags", 0) != 0) continue;
    std::istringstream flags(line);
    for (std::string flag; flags >> flag;)
      for (const char* known : {"avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni",
                                "amx_bf16", "amx_int8", "amx_tile"})
        if (flag == known) found += (found.empty() ? "" : " ") + flag;
    break;
  }
  return found;
}

int64_t limit_of(__rlimit_resource_t what) {
  rlimit r{};
  getrlimit(what, &r);
  return r.rlim_cur == RLIM_INFINITY ? -1 : static_cast<int64_t>(r.rlim_cur);
}

int numa_nodes() {
  std::error_code ignored;
  int nodes = 0;
  for (const auto& entry : fs::directory_iterator("/sys/devices/system/node", ignored)) {
    const std::string name = entry.path().filename();
    nodes += name.size() > 4 && name.rfind("node", 0) == 0 &&
             std::isdigit(static_cast<unsigned char>(name[4]));
  }
  return std::max(nodes, 1);
}

std::string launcher() {
  if (!environment("OMPI_COMM_WORLD_SIZE").empty()) return "mpirun (Open MPI)";
  if (!environment("SLURM_PROCID").empty()) return "srun";
  return "none";
}

}  // namespace

Machine look_at_machine(World& world) {
  Machine m;
  char host[256] = {};
  gethostname(host, sizeof host - 1);
  m.host = host;
  m.isa = instruction_sets();
  const Limits limits = read_limits();
  m.cores = limits.cores, m.cores_online = limits.cores_online;
  m.cpu_limit = limits.cpu_quota;
  m.memory = limits.memory, m.memory_available = limits.memory_available;
  m.memory_limit = limits.memory_limit, m.address_space = limits.address_space;
  struct statvfs shm {};
  if (statvfs("/dev/shm", &shm) == 0) {
    m.shm = static_cast<int64_t>(shm.f_blocks * shm.f_frsize);
    m.shm_free = static_cast<int64_t>(shm.f_bavail * shm.f_frsize);
  }
  m.open_files = limit_of(RLIMIT_NOFILE);
  m.locked_memory = limit_of(RLIMIT_MEMLOCK);
  m.core_size = limit_of(RLIMIT_CORE);
  m.numa_nodes = numa_nodes();
  m.shm_segment = number_of("/proc/sys/kernel/shmmax");
  m.huge_pages = first_line("/sys/kernel/mm/transparent_hugepage/enabled");
  m.omp_threads = environment("OMP_NUM_THREADS");
  m.launcher = launcher();
  const Ranks ranks = ranks_of(world, {});
  m.threads = ranks.threads, m.threads_words = ranks.words;
  m.processor = cpu::description();
  m.rank = world.all().rank();
  m.local_rank = world.local_rank(), m.local_size = world.local_size();
  return m;
}

}  // namespace ft
