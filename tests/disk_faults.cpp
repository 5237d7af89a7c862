// A library to be loaded before a program (LD_PRELOAD): the calls that FT_FAULT names fail.
//   FT_FAULT="CALL,CALL:ERRNO:PART[:SKIP]"   calls on paths that hold PART, after the first SKIP
// Calls: open (also of folders), readdir, stat, read (also pread), write, fsync.
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <string>

namespace {

struct Fault {
  std::string calls, part;
  int error = 0;
  long skip = 0;
  Fault() {
    const char* text = ::getenv("FT_FAULT");
    if (!text) return;
    std::string all = text;
    const size_t a = all.find(':'), b = all.find(':', a + 1), c = all.find(':', b + 1);
    calls = "," + all.substr(0, a) + ",";
    error = ::atoi(all.c_str() + a + 1);
    part = all.substr(b + 1, c == all.npos ? c : c - b - 1);
    if (c != all.npos) skip = ::atol(all.c_str() + c + 1);
  }
};

bool fails(const char* call, const char* path) {
  static Fault fault;
  if (fault.error == 0 || !path || !::strstr(path, fault.part.c_str())) return false;
  if (fault.calls.find(std::string(",") + call + ",") == std::string::npos) return false;
  if (fault.skip > 0 && fault.skip--) return false;
  errno = fault.error;
  return true;
}

bool fails(const char* call, int fd) {
  char link[64], path[4096];
  ::snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t n = ::readlink(link, path, sizeof path - 1);
  if (n < 0) return false;
  path[n] = 0;
  return fails(call, path);
}

template <class F>
F* next(const char* name) {
  return reinterpret_cast<F*>(::dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" {

int open(const char* path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  const int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, int) : 0;
  va_end(more);
  static auto* real = next<int(const char*, int, int)>("open");
  return fails("open", path) ? -1 : real(path, flags, mode);
}
int open64(const char* path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  const int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, int) : 0;
  va_end(more);
  return open(path, flags, mode);
}
FILE* fopen(const char* path, const char* mode) {
  static auto* real = next<FILE*(const char*, const char*)>("fopen");
  return fails("open", path) ? nullptr : real(path, mode);
}
FILE* fopen64(const char* path, const char* mode) { return fopen(path, mode); }
DIR* opendir(const char* path) {
  static auto* real = next<DIR*(const char*)>("opendir");
  return fails("open", path) ? nullptr : real(path);
}
struct dirent* readdir(DIR* folder) {
  static auto* real = next<dirent*(DIR*)>("readdir");
  return fails("readdir", ::dirfd(folder)) ? nullptr : real(folder);
}
int stat(const char* path, struct stat* to) {
  static auto* real = next<int(const char*, struct stat*)>("stat");
  return fails("stat", path) ? -1 : real(path, to);
}
ssize_t read(int fd, void* to, size_t n) {
  static auto* real = next<ssize_t(int, void*, size_t)>("read");
  return fails("read", fd) ? -1 : real(fd, to, n);
}
ssize_t pread(int fd, void* to, size_t n, off_t at) {
  static auto* real = next<ssize_t(int, void*, size_t, off_t)>("pread");
  return fails("read", fd) ? -1 : real(fd, to, n, at);
}
ssize_t write(int fd, const void* from, size_t n) {
  static auto* real = next<ssize_t(int, const void*, size_t)>("write");
  return fails("write", fd) ? -1 : real(fd, from, n);
}
int fsync(int fd) {
  static auto* real = next<int(int)>("fsync");
  return fails("fsync", fd) ? -1 : real(fd);
}

}  // extern "C"
