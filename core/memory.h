// Device memory in named segments with a ledger, and scratch for temporaries.
// In a virtual Memory nothing is allocated (pointers stay null): the plan is the run without the
// work.
#pragma once

#include "core/device.h"
#include "core/tensor.h"
#include "core/transfer.h"

#include <initializer_list>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace ft {

class Memory {
 public:
  Memory(Device& device, bool is_virtual)
      : device_(device), virtual_(is_virtual), transfer_(device) {}
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  Tensor make(const std::string& segment, Dtype dtype, std::initializer_list<int64_t> shape);
  void* bytes(const std::string& segment, int64_t size);  // zeroed
  bool is_virtual() const { return virtual_; }
  Device& device() const { return device_; }
  Transfer& transfer() { return transfer_; }  // the way in and out; it counts for no segment
  // Bytes by segment, in order of first use.
  const std::vector<std::pair<std::string, int64_t>>& ledger() const { return ledger_; }
  int64_t total() const;

 private:
  Device& device_;
  bool virtual_;
  Transfer transfer_;
  std::vector<void*> blocks_;
  std::vector<std::pair<std::string, int64_t>> ledger_;
};

// First-fit arena for temporaries of any lifetime: not a stack, because parallel branches and
// deferred weight gradients end in another order than they began. Without memory it only measures
// its high water.
class Scratch {
 public:
  void bind(void* memory, int64_t capacity) {
    base_ = static_cast<char*>(memory), capacity_ = capacity;
  }
  int64_t high_water() const { return high_water_; }
  int64_t take(int64_t bytes);  // offset
  void give(int64_t offset);
  void* at(int64_t offset) const { return base_ ? base_ + offset : nullptr; }
  // While a fork is open, what its branches release stays reserved: branches may run at once.
  void open_fork() { ++forks_; }
  void close_fork();

 private:
  char* base_ = nullptr;
  int64_t capacity_ = -1;  // -1: measuring
  int64_t high_water_ = 0;
  int forks_ = 0;
  std::map<int64_t, int64_t> used_;  // offset -> bytes
  std::vector<int64_t> deferred_;
};

// A temporary tensor; its memory returns to the scratch at the end of the scope.
class Temp {
 public:
  Temp(Scratch& scratch, Dtype dtype, std::initializer_list<int64_t> shape);
  ~Temp();
  Temp(Temp&& other) noexcept;
  Temp& operator=(Temp&&) = delete;
  operator const Tensor&() const { return tensor_; }
  operator In() const { return In(tensor_); }
  operator Out() const { return Out(tensor_); }
  operator InOut() const { return InOut(tensor_); }
  const Tensor* operator->() const { return &tensor_; }
  const Tensor& get() const { return tensor_; }

 private:
  Scratch* scratch_;
  int64_t offset_;
  Tensor tensor_;
};

}  // namespace ft
