// What /proc, /sys and the process's limits say of the machine.
#include "app/doctor.h"

#include "app/ceilings.h"

#include <dirent.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
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

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

int64_t meminfo(const std::string& key) {
  std::ifstream file("/proc/meminfo");
  for (std::string name, unit; file >> name;) {
    int64_t value = 0;
    file >> value;
    std::getline(file, unit);
    if (name == key + ":") return value * 1024;
  }
  return 0;
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

// A limit of the cgroup this process is in, the tightest on the way to the root; 0: none.
template <class Read>
double tightest(const Read& read) {
  std::ifstream file("/proc/self/cgroup");
  double least = 0;
  for (std::string line; std::getline(file, line);) {
    const size_t second = line.find(':', line.find(':') + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(line.find(':') + 1, second - line.find(':') - 1);
    fs::path path = line.substr(second + 1);
    for (;; path = path.parent_path()) {
      const double limit = read(controllers, path.string() == "/" ? "" : path.string());
      if (limit > 0 && (least == 0 || limit < least)) least = limit;
      if (!path.has_relative_path()) break;
    }
  }
  return least;
}

double number(const std::string& text) {
  return text.empty() || !std::isdigit(static_cast<unsigned char>(text[0]))
             ? 0
             : std::atof(text.c_str());
}

double cpu_limit() {
  return tightest([](const std::string& controllers, const std::string& path) {
    if (controllers.empty()) {  // version 2: "quota period", or "max period"
      std::istringstream line(first_line("/sys/fs/cgroup" + path + "/cpu.max"));
      std::string quota;
      double period = 0;
      line >> quota >> period;
      return period > 0 ? number(quota) / period : 0.0;
    }
    if (controllers.find("cpu") == std::string::npos) return 0.0;
    const std::string base = "/sys/fs/cgroup/cpu" + path;
    const double period = number(first_line(base + "/cpu.cfs_period_us"));
    return period > 0 ? number(first_line(base + "/cpu.cfs_quota_us")) / period : 0.0;
  });
}

int64_t memory_limit(int64_t memory) {
  const double limit = tightest([](const std::string& controllers, const std::string& path) {
    if (controllers.empty()) return number(first_line("/sys/fs/cgroup" + path + "/memory.max"));
    if (controllers != "memory") return 0.0;
    return number(first_line("/sys/fs/cgroup/memory" + path + "/memory.limit_in_bytes"));
  });
  // Version 1 writes "none" as a number near 2^63.
  return limit > 0 && limit < static_cast<double>(memory) ? static_cast<int64_t>(limit) : 0;
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
  cpu_set_t set;
  CPU_ZERO(&set);
  sched_getaffinity(0, sizeof set, &set);
  for (int c = 0; c < CPU_SETSIZE; ++c)
    if (CPU_ISSET(c, &set)) m.cores.push_back(c);
  m.cores_online = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  m.cpu_limit = cpu_limit();
  m.memory = meminfo("MemTotal"), m.memory_available = meminfo("MemAvailable");
  m.memory_limit = memory_limit(m.memory);
  struct statvfs shm {};
  if (statvfs("/dev/shm", &shm) == 0) {
    m.shm = static_cast<int64_t>(shm.f_blocks * shm.f_frsize);
    m.shm_free = static_cast<int64_t>(shm.f_bavail * shm.f_frsize);
  }
  m.open_files = limit_of(RLIMIT_NOFILE);
  m.locked_memory = limit_of(RLIMIT_MEMLOCK);
  m.core_size = limit_of(RLIMIT_CORE);
  m.numa_nodes = numa_nodes();
  m.huge_pages = first_line("/sys/kernel/mm/transparent_hugepage/enabled");
  m.omp_threads = environment("OMP_NUM_THREADS");
  m.launcher = launcher();
  m.threads = default_threads();
  m.processor = cpu::open_device(0)->description();
  m.rank = world.all().rank();
  m.local_rank = world.local_rank(), m.local_size = world.local_size();
  return m;
}

}  // namespace ft
