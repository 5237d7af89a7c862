// doctor: what this machine and this job offer falcon-train, what is wrong, and how to mend it.
// machine.cpp looks, judge.cpp finds what is wrong, commands/doctor.cpp measures and tells.
#pragma once

#include "parallel/comm/comm.h"

#include <cstdint>
#include <string>
#include <vector>

namespace ft {

struct DoctorOptions {
  std::string directory = "runs";  // where runs go: its disk is measured
  double seconds = 1;              // of each measurement
  std::string json;                // file for the findings; "-": standard output, without the text
};

// Collective. 0: nothing is wrong; 1: something is.
int doctor(World& world, const DoctorOptions& options);

// What one rank sees of the machine; plain values, so that judging them can be tested. Sizes in
// bytes; -1 or 0: unknown or without limit, as said.
struct Machine {
  std::string host, processor, isa;
  std::vector<int> cores;  // this process may run on
  int cores_online = 0;
  double cpu_limit = 0;  // cores' worth of time that the cgroup grants; 0: no limit
  int64_t memory = 0, memory_available = 0, memory_limit = 0;  // limit of the cgroup; 0: none
  int64_t address_space = 0;        // of a process (ulimit -v); 0: no limit
  int64_t shm = -1, shm_free = -1;  // /dev/shm; -1: not there
  int64_t shm_segment = 0;          // largest System V segment; 0: no limit
  int64_t open_files = 0, locked_memory = 0, core_size = 0;  // -1: without limit
  int numa_nodes = 1;
  std::string huge_pages, omp_threads, launcher;
  int threads = 1;            // what training takes
  std::string threads_words;  // and where that comes from
  int rank = 0, local_rank = 0, local_size = 1;
};
Machine look_at_machine(World& world);

struct Finding {
  std::string wrong, mend;
};
// `ranks`: what every rank saw, in rank order.
std::vector<Finding> judge(const std::vector<Machine>& ranks);

}  // namespace ft
