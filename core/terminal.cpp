#include "core/terminal.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>

namespace ft {

namespace {

// Name and parent of a process, from "pid (name) state parent ..."; the name may hold anything.
struct Process {
  std::string name;
  int parent = 0;
};
Process process(int pid) {
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  std::string text;
  std::getline(file, text);
  const size_t open = text.find('('), close = text.rfind(')');
  if (open == text.npos || close == text.npos || close + 4 > text.size()) return {};
  return {text.substr(open + 1, close - open - 1), std::atoi(text.c_str() + close + 4)};
}

bool set(const char* name) {
  const char* value = std::getenv(name);
  return value && *value;
}

// The launcher above us, or 0.
int launcher() {
  if (!set("OMPI_COMM_WORLD_RANK") && !set("PMIX_RANK") && !set("PMI_RANK")) return 0;
  for (int pid = ::getppid(); pid > 1;) {
    const Process p = process(pid);
    for (const char* name : {"mpirun", "mpiexec", "orterun", "prterun", "prte", "hydra_pmi_proxy"})
      if (p.name == name) return pid;
    pid = p.parent;
  }
  return -1;  // on another machine, say
}

// A descriptor of the terminal that our lines end on, or -1; `owned`: to be closed.
int output(bool& owned) {
  owned = false;
  const int above = launcher();
  if (above < 0 || !::isatty(STDOUT_FILENO)) return -1;
  if (above == 0) return STDOUT_FILENO;
  const int fd = ::open(fmt::format("/proc/{}/fd/1", above).c_str(), O_WRONLY | O_NOCTTY);
  owned = fd >= 0;
  return fd;
}

}  // namespace

Terminal terminal() {
  const char* kind = std::getenv("TERM");
  if (!kind || !*kind || std::strcmp(kind, "dumb") == 0 || set("SLURM_JOB_ID")) return {};
  bool owned = false;
  const int fd = output(owned);
  Terminal t{.present = fd >= 0 && ::isatty(fd)};
  t.colour = t.present && !set("NO_COLOR");
  winsize size{};
  if (t.present && ::ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) t.columns = size.ws_col;
  if (owned) ::close(fd);
  return t;
}

}  // namespace ft
