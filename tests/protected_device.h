// A CPU device that behaves like one whose memory is elsewhere, to find host code that forgets it.
//  * Its memory faults when the host touches it outside of HostAccess (core/device.h); what lies
//    between its blocks, a page at least behind each, faults always.
//  * Copies from the host are done as late as they may be: when an op of the stream, or of one that
//    waits for it, needs them. Until the stream was synchronized or an event behind it was waited
//    for, the host's memory must stay as it was; otherwise the process ends with a message.
//  * Copies to the host arrive at that moment; until then their memory holds 0xff.
//  * The three streams are different ones: what forgets an event reads what is not there yet.
// All of its memory is one range of addresses, which one system call opens or closes: each op does
// both, so that is what this device costs.
#pragma once

#include "cpu/device.h"

#include <cstdint>
#include <deque>
#include <map>
#include <memory>

namespace ft::test {

class ProtectedDevice : public cpu::CpuDevice {
 public:
  ProtectedDevice();
  ~ProtectedDevice() override;
  std::string description() const override { return CpuDevice::description() + ", protected"; }
  void* allocate(size_t bytes) override;
  void release(void* memory) override;
  void* allocate_host(size_t bytes) override;
  void release_host(void* memory) override;
  Streams streams() const override;
  std::unique_ptr<Event> event() override;
  void synchronize(Stream stream) override;
  void copy(void* to, const void* from, size_t bytes, Stream stream) override;
  void copy_rows(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t row_bytes,
                 size_t rows, Stream stream) override;
  bool owns(const void* memory) const;  // device memory, or what lies between

 protected:
  void begin_access(Stream stream) override;
  void end_access() override;

 private:
  friend class LateEvent;
  struct Item;  // a copy, or a wait for another stream
  struct Queue {
    size_t finished = 0, run = 0;  // of the items that it was given: known to the host, and done
    std::deque<std::unique_ptr<Item>> items;  // those that are not finished
    Item& item(size_t i) { return *items[i - finished]; }
    size_t given() const { return finished + items.size(); }
  };
  Queue& queue(Stream stream);
  void run(Queue& queue, size_t end);
  void finish(Queue& queue, size_t end);
  void protect(int protection);
  void map_nothing(char* begin, size_t bytes);

  int empty_file_;  // lies where no block does: a read or write there is behind its end
  char* arena_;
  std::map<char*, size_t> blocks_, host_blocks_;
  Queue queues_[3];
  int accesses_ = 0;
};

}  // namespace ft::test
