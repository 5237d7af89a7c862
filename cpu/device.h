// The CPU as a device: memory of the host, and work that is done when the call returns.
#pragma once

#include "core/device.h"

#include <memory>
#include <string>

namespace ft::cpu {

// threads 0: what core/limits.h finds for each of the ranks that a launcher put on this machine.
// Throws ConfigError on a processor without AVX2.
std::unique_ptr<Device> open_device(int threads);
void use_threads(int threads);  // what open_device does beside making the device
std::string description();      // for people: processor, instruction set
std::string matrix_library();   // name and version of what computes matrix products

class CpuDevice : public Device {
 public:
  CpuDevice();
  DeviceKind kind() const override { return DeviceKind::Cpu; }
  std::string description() const override { return cpu::description(); }
  int64_t memory_total() const override { return memory_; }
  int64_t memory_taken() const override;
  void* allocate(size_t bytes) override;
  void release(void* memory) override;
  void* allocate_host(size_t bytes) override;
  void release_host(void* memory) override;
  Streams streams() const override { return {}; }
  std::unique_ptr<Event> event() override;
  void synchronize(Stream) override {}
  void copy(void* to, const void* from, size_t bytes, Stream stream) override;
  void copy_rows(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t row_bytes,
                 size_t rows, Stream stream) override;

 private:
  int64_t memory_;
};

}  // namespace ft::cpu
