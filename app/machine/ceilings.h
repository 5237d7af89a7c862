// What this machine can do at most, measured: the yardsticks of bench, doctor and MFU.
#pragma once

#include "core/device.h"
#include "core/workspace.h"
#include "parallel/comm/comm.h"

#include <vector>

namespace ft {

struct Ceiling {
  int threads = 1;        // 0: of a GPU
  double flops = 0;       // a second, of a large matrix product
  double copy_bytes = 0;  // a second, read and written, of a copy far larger than the caches
};

// Best of repeats over about `seconds` each, after one that is not counted. `dtype`: of the
// product's operands. Leaves the process with `threads` threads.
Ceiling measure_ceiling(int threads, Dtype dtype, double seconds);
Ceiling measure_gpu(Device& gpu, Dtype dtype, double seconds);
// 1, 2, 4, ... and `threads`.
std::vector<Ceiling> measure_ceilings(int threads, Dtype dtype, double seconds);
// FLOP/s of matrix products with operands of `dtype`, the sum over all ranks, who measure at once as
// they train at once. Other programs can only slow a product down, so the three fastest of many
// blocks count: once they agree within 2 % and a second is over, their median; after two seconds the
// median as it is. Collective.
double matrix_speed(Device& device, Group& all, Dtype dtype);
// Bytes that it takes and gives back; its workspaces, which stay, are added to the others.
int64_t count_matrix_speed(Device& device, Dtype dtype, WorkspaceNeed& workspaces);
int default_threads();  // of this rank, as run.threads = 0 means

}  // namespace ft
