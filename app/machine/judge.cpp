// What is wrong with a machine, and the mend.
#include "app/machine/diagnose.h"

#include "core/check.h"

#include <algorithm>
#include <cstdlib>
#include <map>

namespace ft {

namespace {

constexpr double kMiB = 1024.0 * 1024, kGiB = 1024 * kMiB;
constexpr int64_t kShmPerRank = int64_t{16} << 20;  // Open MPI's queues and segments, about
constexpr int64_t kFewFiles = 1024;

void judge_cores(const std::vector<Machine>& node, std::vector<Finding>& findings) {
  const Machine& m = node.front();
  const bool bound = static_cast<int>(m.cores.size()) < m.cores_online;
  int threads = 0;
  for (const Machine& r : node) threads += r.threads;
  // Of a bound rank's threads each core bears its part; more than one thread a core is too much.
  std::map<int, std::vector<int>> on;
  std::map<int, double> load;
  for (const Machine& r : node)
    if (static_cast<int>(r.cores.size()) < r.cores_online)
      for (int core : r.cores) {
        on[core].push_back(r.rank);
        load[core] += r.threads / static_cast<double>(r.cores.size());
      }
  for (const auto& [core, ranks] : on) {
    if (ranks.size() < 2 || load[core] < 1.01) continue;
    findings.push_back(
        {fmt::format("{}: ranks {} and {} are bound to the same core {}, with more threads than "
                     "cores",
                     m.host, ranks[0], ranks[1], core),
         "start with mpirun --bind-to none, or --map-by slot:PE=CORES with enough cores for each"});
    return;
  }
  const double granted = m.cpu_limit > 0 ? m.cpu_limit : 1e9;
  if (threads > granted + 0.5)
    findings.push_back(
        {fmt::format("{}: {} threads in all, but the cgroup grants {:.1f} cores' "
                     "worth of time",
                     m.host, threads, granted),
         fmt::format("set run.threads to {}, or raise the container's CPU limit",
                     std::max(1, static_cast<int>(granted) / static_cast<int>(node.size())))});
  else if (!bound && static_cast<int>(node.size()) > m.cores_online)
    findings.push_back(
        {fmt::format("{}: {} ranks share {} cores", m.host, node.size(), m.cores_online),
         "start fewer ranks on this machine: each needs a core of its own"});
}

void judge_memory(const std::vector<Machine>& node, std::vector<Finding>& findings) {
  const Machine& m = node.front();
  if (m.memory_limit > 0 &&
      static_cast<double>(m.memory_limit) < 0.95 * static_cast<double>(m.memory))
    findings.push_back(
        {fmt::format("{}: the cgroup allows {:.1f} GiB of the machine's {:.1f} GiB of memory",
                     m.host, static_cast<double>(m.memory_limit) / kGiB,
                     static_cast<double>(m.memory) / kGiB),
         "keep the total of falcon-train plan below that, or raise the limit (docker --memory, "
         "sbatch --mem)"});
  const auto ranks = static_cast<int64_t>(node.size());
  if (ranks > 1 && m.shm_free < kShmPerRank * ranks)
    findings.push_back(
        {m.shm < 0
             ? fmt::format("{}: there is no /dev/shm, which ranks of one machine talk through",
                           m.host)
             : fmt::format("{}: /dev/shm has {:.0f} MiB free of {:.0f}; {} ranks want about "
                           "{:.0f}",
                           m.host, static_cast<double>(m.shm_free) / kMiB,
                           static_cast<double>(m.shm) / kMiB, ranks,
                           static_cast<double>(kShmPerRank * ranks) / kMiB),
         "enlarge it (docker --shm-size=1g; mount -o remount,size=1g /dev/shm), or remove what "
         "fills it"});
}

void judge_rank(const Machine& m, std::vector<Finding>& findings) {
  if (m.isa.find("avx2") == std::string::npos || m.isa.find("fma") == std::string::npos)
    findings.push_back({m.host + ": the processor lacks AVX2 or FMA",
                        "use another machine: the "
                        "CPU backend is compiled for both"});
  if (m.open_files >= 0 && m.open_files < kFewFiles)
    findings.push_back({fmt::format("{}: only {} open files are allowed", m.host, m.open_files),
                        "ulimit -n 65536, before the start"});
  if (!m.omp_threads.empty() && std::atoi(m.omp_threads.c_str()) <= 0)
    findings.push_back({fmt::format("OMP_NUM_THREADS is \"{}\"", m.omp_threads),
                        "set it to the threads that a rank is to take, or unset it"});
  if (m.threads > static_cast<int>(m.cores.size()))
    findings.push_back({fmt::format("{}: a rank takes {} threads on {} core{}", m.host, m.threads,
                                    m.cores.size(), m.cores.size() == 1 ? "" : "s"),
                        fmt::format("set OMP_NUM_THREADS or run.threads to {} at most, or unset "
                                    "them",
                                    m.cores.size())});
}

}  // namespace

std::vector<Finding> judge(const std::vector<Machine>& ranks) {
  std::vector<Finding> findings;
  std::map<std::string, std::vector<Machine>> nodes;
  for (const Machine& m : ranks) nodes[m.host].push_back(m);
  for (const auto& [host, node] : nodes) {
    judge_cores(node, findings);
    judge_memory(node, findings);
    judge_rank(node.front(), findings);
    if (node.front().processor != ranks.front().processor)
      findings.push_back({fmt::format("{} has {}, {} has {}", ranks.front().host,
                                      ranks.front().processor, host, node.front().processor),
                          "use machines of one kind: the slowest sets the pace, and results differ "
                          "in rounding"});
  }
  return findings;
}

}  // namespace ft
