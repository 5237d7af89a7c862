// Numbers that the host reads once a step, all at once.
#pragma once

#include "core/device.h"

#include <vector>

namespace ft {

class Readback {
 public:
  // Dense tensors of the device, which must outlive this; nothing is allocated later.
  Readback(Device& device, std::vector<Tensor> tensors);
  ~Readback();
  Readback(const Readback&) = delete;
  Readback& operator=(const Readback&) = delete;

  // Copies them, behind the work that the device was handed so far. What values() gives is theirs
  // once the device was synchronized.
  void start();
  // Of tensor i, in the order of the constructor, f32 or f64.
  std::vector<double> values(size_t i) const;

 private:
  Device& device_;
  std::vector<Tensor> tensors_;
  std::vector<void*> host_;  // of each, in pinned memory
};

}  // namespace ft
