#include "app/machine/wait_policy.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <climits>
#include <cstdlib>
#include <fstream>
#include <string>
#include <string_view>
#include <thread>

namespace ft {

namespace {

constexpr const char* kMark = "FALCON_TRAIN_WAITS";  // process id that was started anew

// Threads that run or want to run on this machine, the fewest of a few looks; -1: not known.
int runnable() {
  int fewest = INT_MAX;
  for (int look = 0; look < 4; ++look) {
    if (look > 0) std::this_thread::sleep_for(std::chrono::milliseconds(3));
    std::ifstream file("/proc/loadavg");
    std::string word;
    for (int i = 0; i < 4; ++i) file >> word;  // 0.20 0.18 0.12 RUNNABLE/ALL
    if (!file) return -1;
    fewest = std::min(fewest, std::atoi(word.c_str()));
  }
  return fewest;
}

// Counts are of the whole machine: who may use a part of it alone cannot tell.
bool cores_are_shared() {
  cpu_set_t set;
  const long cores = ::sysconf(_SC_NPROCESSORS_ONLN);
  if (::sched_getaffinity(0, sizeof set, &set) != 0 || CPU_COUNT(&set) < cores) return false;
  const char* ranks = std::getenv("OMPI_COMM_WORLD_LOCAL_SIZE");
  const int own = ranks ? std::atoi(ranks) + 1 : 1;  // and the launcher
  const int others = runnable() - own;
  return others >= 1 && others * 4 >= cores;
}

bool is_own_file() {  // and not a loader or a tool that runs this program
  char path[PATH_MAX] = "";
  if (::readlink("/proc/self/exe", path, sizeof path - 1) < 0) return false;
  const std::string_view file(path);
  return file.substr(file.rfind('/') + 1).starts_with("falcon-train");
}

}  // namespace

void wait_as_cores_allow(char** argv) {
  const std::string self = std::to_string(::getpid());
  const char* mark = std::getenv(kMark);
  const bool is_new = mark && self == mark;
  ::unsetenv(kMark);
  if (is_new || std::getenv("OMP_WAIT_POLICY") || std::getenv("GOMP_SPINCOUNT") || !is_own_file() ||
      !cores_are_shared())
    return;
  ::setenv("GOMP_SPINCOUNT", "1000", 1);
  ::setenv(kMark, self.c_str(), 1);
  ::execv("/proc/self/exe", argv);
}

}  // namespace ft
