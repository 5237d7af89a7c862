// The CUDA backend of a build without it.
#include "cuda/device.h"

namespace ft::cuda {

bool available() { return false; }

std::vector<std::string> descriptions() { return {}; }

namespace {

[[noreturn]] void refuse() {
  throw ConfigError(
      "run.device: cuda, but this falcon-train was built without CUDA. Set run.device to cpu or "
      "auto, or use a build with the CUDA backend");
}

}  // namespace

int64_t memory(int) { refuse(); }

std::unique_ptr<Device> open_device(int) { refuse(); }

}  // namespace ft::cuda
