#include "core/virtual_device.h"

#include <utility>

namespace ft {

namespace {

class VirtualDevice : public Device {
 public:
  VirtualDevice(DeviceKind kind, int64_t memory_total, std::string name)
      : kind_(kind), memory_total_(memory_total), name_(std::move(name)) {}
  DeviceKind kind() const override { return kind_; }
  std::string description() const override { return name_; }
  int64_t memory_total() const override { return memory_total_; }
  int64_t memory_taken() const override { return 0; }
  Streams streams() const override { return {}; }
  void* allocate(size_t) override { refuse("memory"); }
  void* allocate_host(size_t) override { refuse("memory"); }
  std::unique_ptr<Event> event() override { refuse("an event"); }
  void copy(void*, const void*, size_t, Stream) override { refuse("a copy"); }
  void copy_rows(void*, size_t, const void*, size_t, size_t, size_t, Stream) override {
    refuse("a copy");
  }
  void release(void*) override {}
  void release_host(void*) override {}
  void synchronize(Stream) override {}

 protected:
  void begin_access(Stream) override { refuse("an op"); }

 private:
  [[noreturn]] void refuse(const char* what) const {
    throw Error(fmt::format("{}: a device to plan with was asked for {}", name_, what));
  }

  DeviceKind kind_;
  int64_t memory_total_;
  std::string name_;
};

}  // namespace

std::unique_ptr<Device> virtual_device(DeviceKind kind, int64_t memory_total, std::string name) {
  return std::make_unique<VirtualDevice>(kind, memory_total, std::move(name));
}

}  // namespace ft
