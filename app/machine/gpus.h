// GPUs that a run can be planned for without one at hand.
#pragma once

#include <cstdint>
#include <string>

namespace ft {

// Bytes of the GPU of that name, which --gpu gave. Throws ConfigError with the names that are known.
int64_t memory_of_gpu(const std::string& name);
std::string gpu_names();  // "a100, a100-40gb, ..."

}  // namespace ft
