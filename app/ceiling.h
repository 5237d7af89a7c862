// The yardstick of MFU on a CPU: what its matrix products reach.
#pragma once

#include "core/device.h"
#include "parallel/comm.h"

namespace ft {

// FLOP/s of fp32 matrix products, the sum over all ranks, who measure at once as they train at
// once. A rank's is the fastest of a few products of 1024 columns, about a quarter of a second. NaN
// on a device other than a CPU. Collective.
double sgemm_speed(Device& device, Group& all);

}  // namespace ft
