// GPUs that a run can be planned for without one at hand.
#pragma once

#include <cstdint>
#include <string>

namespace ft {

struct GpuType {
  const char* name;
  int64_t memory;     // bytes that a process may take
  double bf16_flops;  // a second, dense matrix products, by the datasheet
  double copy_bytes;  // a second, read and written, by the datasheet
};

// Throws ConfigError with the names that are known.
const GpuType& gpu_type(const std::string& name);
std::string gpu_names();  // "a100, a100-40gb, ..."

}  // namespace ft
