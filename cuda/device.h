// GPUs as devices.
#pragma once

#include "core/device.h"

#include <memory>
#include <string>
#include <vector>

namespace ft::cuda {

bool available();                         // built in, and a GPU is there
std::vector<std::string> descriptions();  // of all GPUs that can be seen
int64_t memory(int local_rank);           // bytes of that GPU; throws as open_device does
// Streams that ops run on: each has workspaces of its own.
constexpr int kOpStreams = 2;
std::unique_ptr<Device> open_device(int local_rank);  // throws ConfigError with the mend

}  // namespace ft::cuda
