// A backend at work, and buffers on it: what a test fills, lends to ops and reads again. Memory of
// the device is touched by its copies alone, so the tests run on any backend.
#pragma once

#include "core/context.h"

#include <cstddef>
#include <memory>
#include <random>
#include <string>
#include <vector>

namespace ft::test {

using Vector = std::vector<double>;

struct Backend {
  const char* name;
  std::unique_ptr<Device> (*open)();
};
// The devices that ops are tested on: a backend is added here (tests/ops/buffer.cpp).
const std::vector<Backend>& backends();

// A device with the gateway that ops go through. The newest one alive is the one at work.
class Bench {
 public:
  explicit Bench(const Backend& backend);
  ~Bench();
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;
  static Bench& now();

  template <class Op>
  void operator()(const Op& op) {
    ++runs_;
    c(op);
  }
  // What is no op but a kernel of the backend, called by itself.
  template <class F>
  void kernel(F&& f) {
    ++runs_;
    f();
  }
  const char* name() const { return name_; }
  int64_t runs() const { return runs_; }  // how often memory may have changed

 private:
  const char* name_;
  Bench* before_;
  int64_t runs_ = 0;

 public:
  std::unique_ptr<Device> device;
  Scratch scratch;
  Ctx c;
};

// On the backend at work.
template <class Op>
void run(const Op& op) {
  Bench::now()(op);
}

// A tensor [rows, cols] with `gap` foreign columns on each side, or [cols]. What was never written
// holds NaN (whole numbers: -1), and so do the foreign columns: an op that reads them is seen by
// its results, one that writes them by gap_intact().
class Buffer {
 public:
  Buffer(Dtype dtype, int64_t rows, int64_t cols, int64_t gap = 0);
  Buffer(Dtype dtype, int64_t cols);
  explicit Buffer(const std::vector<int32_t>& values);
  Buffer(const void* bytes, size_t count);  // u8
  Buffer(const Buffer& other);              // the values, in memory of its own
  Buffer(Buffer&&) = default;
  Buffer& operator=(Buffer&&) = default;

  // On the backend at work. The values are those of now; what ops write there is read afterwards.
  Tensor tensor() const;
  Tensor operator*() const { return tensor(); }

  // Normal numbers shift + scale * N(0, 1); `stream` keeps buffers apart.
  Buffer& random(uint64_t stream, double scale = 1, double shift = 0);
  // shift + scale * U(-1, 1)
  Buffer& uniform(std::mt19937_64& random, double scale = 1, double shift = 0);
  Buffer& fill(double value);
  Buffer& assign(const Vector& values);
  // Element i of [rows, cols]; rounded to the dtype.
  void set(int64_t i, double value);

  Dtype dtype() const { return dtype_; }
  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  double get(int64_t i) const;
  double at(int64_t r, int64_t c) const { return get(r * cols_ + c); }
  Vector values() const;
  bool gap_intact() const;
  bool same_bits(const Buffer& other) const { return host() == other.host(); }

 private:
  struct Memory;  // of the device

  size_t offset(int64_t i) const;
  void write(int64_t i, double value);
  void upload() const;
  const std::vector<std::byte>& host() const;  // as the device has it

  int64_t rows_, cols_, gap_;
  Dtype dtype_;
  bool flat_ = false;
  mutable std::vector<std::byte> bytes_;
  mutable std::shared_ptr<Memory> memory_;  // of this buffer alone
  mutable int64_t read_at_ = 0;             // Bench::runs() that bytes_ is up to
};

}  // namespace ft::test
