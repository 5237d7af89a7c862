// SEAM 1: memory, copies and order of execution on a device. Implemented in cpu/device.cpp and in
// cuda/ (where a build has no CUDA: cuda/absent.cpp, which says so).
#pragma once

#include "core/tensor.h"

#include <cstddef>
#include <memory>
#include <string>

namespace ft {

enum class DeviceKind : uint8_t { Cpu, Cuda };

// An ordered queue of work; null is the device's main stream. The CPU executes at once.
struct Stream {
  void* handle = nullptr;
};

class Device {
 public:
  virtual ~Device() = default;
  virtual DeviceKind kind() const = 0;
  virtual std::string description() const = 0;  // for people: processor, instruction set
  virtual void* allocate(size_t bytes) = 0;     // zeroed, 128-byte aligned; throws with the size
  virtual void release(void* memory) = 0;
  virtual void copy(void* to, const void* from, size_t bytes, Stream stream) = 0;  // any direction
  virtual void synchronize(Stream stream) = 0;          // returns when the stream's work is done
  virtual int64_t memory_total() const = 0;             // bytes that a process may use there
  int64_t allocations() const { return allocations_; }  // calls of allocate() so far

 protected:
  int64_t allocations_ = 0;
};

namespace cpu {
// threads 0: what core/limits.h finds for each of the ranks that a launcher put on this machine.
std::unique_ptr<Device> open_device(int threads);
std::string matrix_library();  // name and version of what computes matrix products
}  // namespace cpu
namespace cuda {
bool available();                                     // built in, and a GPU is there
std::unique_ptr<Device> open_device(int local_rank);  // throws ConfigError with the mend
}  // namespace cuda

}  // namespace ft
