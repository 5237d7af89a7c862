// GPUs as devices.
#pragma once

#include "core/device.h"

#include <memory>

namespace ft::cuda {

bool available();                                     // built in, and a GPU is there
std::unique_ptr<Device> open_device(int local_rank);  // throws ConfigError with the mend

}  // namespace ft::cuda
