// What this process may use of its machine: memory, cores, time on them. Whoever wants to know asks
// here, so that a plan, a run and doctor see the same machine. Linux: /proc and control groups.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ft {

struct Limits {
  int64_t memory = 0;            // bytes of the machine
  int64_t memory_available = 0;  // bytes of it that are free or could be
  // The least limit of the control groups that hold this process, from its own up to the root
  // (Slurm's --mem, systemd, a container); 0: none below the machine's memory.
  int64_t memory_limit = 0;
  int64_t address_space = 0;  // bytes of this process alone (ulimit -v, -d); 0: no limit
  std::vector<int> cores;     // that it may run on
  int cores_online = 1;
  double cpu_quota = 0;  // cores' worth of time that the control groups grant; 0: no limit
};

// `root` stands before every path that is read, for tests.
Limits read_limits(const std::string& root = "");

// Bytes that each of so many processes on this machine may take.
int64_t memory_of_each(const Limits& limits, int processes);

// How many threads a process computes with, and what said so, in words.
struct Threads {
  int count = 1;
  std::string from;
};
// `asked` (run.threads) where it is not 0, else OMP_NUM_THREADS (`omp`, null: not set) where that is
// a number, else the cores that it may run on: of a core that several ranks may run on, each has its
// share. `ranks`: the cores of every rank of the machine, this process's among them. A quota of time
// is shared by all of them.
struct RankCores {
  std::vector<int> cores;
  int ranks = 1;  // that have just these
};
Threads choose_threads(int asked, const char* omp, const Limits& mine,
                       const std::vector<RankCores>& ranks);
// The same for `ranks` equal ranks where this process is; 0: as many as a launcher put here.
Threads choose_threads(int asked, int ranks);

std::string core_ranges(const std::vector<int>& cores);       // "0-3,8"
std::vector<int> parse_core_ranges(const std::string& text);  // of such a text, sorted

}  // namespace ft
