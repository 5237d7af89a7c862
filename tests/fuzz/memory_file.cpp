#include "core/check.h"
#include "tests/fuzz/targets.h"

#include <sys/mman.h>
#include <unistd.h>

#include <array>

namespace ft::fuzz {

std::string memory_file(int slot, const uint8_t* data, size_t size) {
  static std::array<int, 4> files = {-1, -1, -1, -1};
  int& fd = files.at(static_cast<size_t>(slot));
  if (fd < 0) fd = ::memfd_create("fuzz", MFD_CLOEXEC);
  FT_CHECK(fd >= 0 && ::ftruncate(fd, 0) == 0 &&
               ::pwrite(fd, data, size, 0) == static_cast<ssize_t>(size),
           "no file in memory could be made");
  return fmt::format("/proc/self/fd/{}", fd);
}

}  // namespace ft::fuzz
