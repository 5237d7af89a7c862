// SEAM 1: memory, copies and order of execution on a device. Implemented in cpu/device.cpp and in
// cuda/ (where a build has no CUDA: cuda/absent.cpp, which says so).
//
// The host never touches device memory: it hands ops to the gateway (core/context.h) and copies;
// values go in and out through core/transfer.h.
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
  bool operator==(const Stream&) const = default;
};

// Of a device; they may be one and the same.
struct Streams {
  Stream main, side, comm;  // ops; what a fork runs beside them; what talks to other ranks
};

// A point in a stream's work, that of the last record(). Before the first it is reached.
class Event {
 public:
  virtual ~Event() = default;
  virtual void record(Stream stream) = 0;
  virtual void hold(Stream stream) = 0;  // what is handed to the stream from now on waits for it
  virtual void wait() = 0;               // the host waits for it
};

class Device {
 public:
  virtual ~Device() = default;
  virtual DeviceKind kind() const = 0;
  virtual std::string description() const = 0;  // for people: processor, instruction set
  virtual int64_t memory_total() const = 0;     // bytes that a process may use there
  // Bytes taken there: by this process at the most so far, on a GPU by all who use it now.
  virtual int64_t memory_taken() const = 0;
  int64_t allocations() const { return allocations_; }  // calls of allocate() so far

  virtual void* allocate(size_t bytes) = 0;  // zeroed, 128-byte aligned; throws with the size
  virtual void release(void* memory) = 0;
  // Host memory that copies reach without a detour: pinned, aligned alike.
  virtual void* allocate_host(size_t bytes) = 0;
  virtual void release_host(void* memory) = 0;

  virtual Streams streams() const = 0;
  virtual std::unique_ptr<Event> event() = 0;
  virtual void synchronize(Stream stream) = 0;  // returns when the stream's work is done
  void synchronize() {                          // that of all streams
    const Streams all = streams();
    for (const Stream stream : {all.main, all.side, all.comm}) synchronize(stream);
  }
  // Copies, in any direction, in the stream's order. They return at once: until the stream was
  // synchronized, or an event behind the copy was waited for, the host neither changes memory that
  // a copy reads nor reads memory that one fills. Pitches are bytes from row to row.
  virtual void copy(void* to, const void* from, size_t bytes, Stream stream) = 0;
  virtual void copy_rows(void* to, size_t to_pitch, const void* from, size_t from_pitch,
                         size_t row_bytes, size_t rows, Stream stream) = 0;

 protected:
  friend class HostAccess;
  // Around code of the host that is the device's own, see HostAccess. Scopes may nest.
  virtual void begin_access(Stream) {}
  virtual void end_access() {}

  int64_t allocations_ = 0;
};

// While it lives, the host works in the memory of a device that is the host's: the CPU's ops, and
// MPI. What was handed to the stream before is done then. Everybody else copies.
class HostAccess {
 public:
  explicit HostAccess(Device& device, Stream stream = {}) : device_(device) {
    device_.begin_access(stream);
  }
  ~HostAccess() { device_.end_access(); }
  HostAccess(const HostAccess&) = delete;
  HostAccess& operator=(const HostAccess&) = delete;

 private:
  Device& device_;
};

}  // namespace ft
