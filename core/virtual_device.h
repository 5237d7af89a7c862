// A device to plan with: a kind, a size and a name, and nothing behind them. What would allocate,
// copy or run there throws; counting (core/context.h) in virtual memory (core/memory.h) does none of
// it. So a plan asks for no GPU, and leaves the CPU's as they are.
#pragma once

#include "core/device.h"

#include <memory>
#include <string>

namespace ft {

std::unique_ptr<Device> virtual_device(DeviceKind kind, int64_t memory_total, std::string name);

}  // namespace ft
