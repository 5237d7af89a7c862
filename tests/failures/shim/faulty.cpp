// Loaded before the C library and MPI (LD_PRELOAD): calls that take their time, or never return.
//   FT_SLOW=fsync|pread:RANK:SECONDS:PART  of rank RANK (or any: *), on paths that hold PART; from
//                                          its 4th such call on; SECONDS may be inf
//   FT_STOP=CALL:RANK                      rank RANK stops itself (SIGSTOP) as it enters an MPI call
#define OMPI_SKIP_MPICXX 1
#define MPICH_SKIP_MPICXX 1
#include <dlfcn.h>
#include <fcntl.h>
#include <mpi.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

namespace {

std::vector<std::string> words_of(const char* variable) {
  std::vector<std::string> words;
  const char* text = std::getenv(variable);
  for (std::string rest = text ? text : ""; !rest.empty();) {
    const size_t end = rest.find(':');
    words.push_back(rest.substr(0, end));
    rest = end == std::string::npos ? "" : rest.substr(end + 1);
  }
  return words;
}

bool is_rank(const std::string& wanted) {
  const char* mine = std::getenv("OMPI_COMM_WORLD_RANK");
  return wanted == "*" || (mine && wanted == mine);
}

void maybe_slow(const char* call, int fd) {
  static const std::vector<std::string> slow = words_of("FT_SLOW");
  if (slow.size() < 4 || slow[0] != call || !is_rank(slow[1])) return;
  char path[4096] = "";
  const std::string link = "/proc/self/fd/" + std::to_string(fd);
  if (::readlink(link.c_str(), path, sizeof path - 1) < 0 || !std::strstr(path, slow[3].c_str()))
    return;
  static std::atomic<int> calls{0};
  if (++calls < 4) return;
  const double seconds = std::atof(slow[2].c_str());
  if (std::isinf(seconds))
    for (;;) ::pause();
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
}

void maybe_stop(const char* call) {
  static const std::vector<std::string> stop = words_of("FT_STOP");
  if (stop.size() == 2 && stop[0] == call && is_rank(stop[1])) ::raise(SIGSTOP);
}

}  // namespace

extern "C" {

int fsync(int fd) {
  static const auto real = reinterpret_cast<int (*)(int)>(::dlsym(RTLD_NEXT, "fsync"));
  maybe_slow("fsync", fd);
  return real(fd);
}

ssize_t pread(int fd, void* to, size_t bytes, off_t at) {
  static const auto real =
      reinterpret_cast<ssize_t (*)(int, void*, size_t, off_t)>(::dlsym(RTLD_NEXT, "pread"));
  maybe_slow("pread", fd);
  return real(fd, to, bytes, at);
}

int MPI_Init_thread(int* argc, char*** argv, int required, int* provided) {
  maybe_stop("MPI_Init_thread");
  return PMPI_Init_thread(argc, argv, required, provided);
}
int MPI_Comm_split_type(MPI_Comm comm, int type, int key, MPI_Info info, MPI_Comm* out) {
  maybe_stop("MPI_Comm_split_type");
  return PMPI_Comm_split_type(comm, type, key, info, out);
}
int MPI_Comm_split(MPI_Comm comm, int color, int key, MPI_Comm* out) {
  maybe_stop("MPI_Comm_split");
  return PMPI_Comm_split(comm, color, key, out);
}
int MPI_Finalize() {
  maybe_stop("MPI_Finalize");
  return PMPI_Finalize();
}
}
