// The one way of values between the host and a device: in chunks through pinned memory, converted
// on the host where the tensor's dtype is another than the host's (float and bf16).
//
// Tensors are seen as rows: dense ones as a single row, others as [rows, columns] with dense rows.
// All of it happens on the device's main stream, in order with its ops.
#pragma once

#include "core/device.h"
#include "core/tensor.h"

#include <functional>
#include <memory>
#include <vector>

namespace ft {

class Transfer {
 public:
  // Takes its memory, kBytes of the host's, when it is first used.
  explicit Transfer(Device& device) : device_(device) {}
  ~Transfer();
  Transfer(const Transfer&) = delete;
  Transfer& operator=(const Transfer&) = delete;

  // What `from` holds is taken when the call returns; it is there for whatever the stream is given
  // later. Host rows follow each other at `pitch` elements; 0: at once.
  template <class E>
  void upload(const Tensor& to, const E* from, int64_t pitch = 0) {
    put(to, from, dtype_of<E>(), pitch);
  }
  // Rows of [rows, columns], or elements of [rows], that f(row, to) writes. With several threads f
  // is called by all of them at once.
  void fill(const Tensor& to, const std::function<void(int64_t row, float* to)>& f,
            int threads = 1);

  // Returns when the values are there.
  template <class E>
  void download(const Tensor& from, E* to, int64_t pitch = 0) {
    get(from, to, dtype_of<E>(), pitch);
  }
  template <class E>
  std::vector<E> download(const Tensor& from) {
    std::vector<E> values(static_cast<size_t>(from.size()));
    download(from, values.data());
    return values;
  }
  double read(const Tensor& scalar);  // of one element, f32, bf16 or f64

  static constexpr size_t kHalf = size_t{1} << 20, kBytes = 2 * kHalf;

 private:
  void put(const Tensor& to, const void* from, Dtype host, int64_t pitch);
  void get(const Tensor& from, void* to, Dtype host, int64_t pitch);
  char* room(size_t bytes);  // of the pinned memory, at most kHalf; waits until it is free

  Device& device_;
  // Two halves: one is filled while copies may still read the other.
  char* memory_ = nullptr;
  std::unique_ptr<Event> copied_[2];  // reached when no copy reads that half
  int half_ = 0;
  size_t used_ = 0;  // of that half
};

}  // namespace ft
