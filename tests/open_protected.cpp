// Linked into a program, it opens protected devices where the program would open the CPU.
#include "tests/protected_device.h"

namespace ft::cpu {

std::unique_ptr<Device> open_device(int threads) {
  use_threads(threads);
  return std::make_unique<test::ProtectedDevice>();
}

}  // namespace ft::cpu
