// Alone in its file, so that a program can bring a device of its own in its place.
#include "cpu/device.h"

namespace ft::cpu {

std::unique_ptr<Device> open_device(int threads) {
  use_threads(threads);
  return std::make_unique<CpuDevice>();
}

}  // namespace ft::cpu
