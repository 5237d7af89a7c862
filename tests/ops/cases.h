// What the op tests share: buffers of random numbers in fp32 or bf16 with strided views, conversion
// to double, error norms, finite differences of a twin in double, and runs with one and with two
// threads.
#pragma once

#include "tests/catch.h"

#include "core/ops.h"
#include "core/rng.h"

#include <omp.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

namespace ft::test {

using Vector = std::vector<double>;

inline constexpr double kTight = 1e-5;  // relative error of fp32 results
inline constexpr double kLoose = 1e-2;  // of bf16 results
inline double tolerance(Dtype dtype) { return dtype == Dtype::BF16 ? kLoose : kTight; }

// Memory of our own behind a tensor [rows, cols] with `gap` unused columns at each row's end. The
// gap holds a pattern, so that an op that writes outside its view is caught by gap_intact().
class Buffer {
 public:
  Buffer(Dtype dtype, int64_t rows, int64_t cols, int64_t gap = 0)
      : rows_(rows),
        cols_(cols),
        width_(cols + gap),
        dtype_(dtype),
        bytes_(static_cast<size_t>(rows * width_ * size_of(dtype))) {
    for (int64_t r = 0; r < rows_; ++r)
      std::memset(at(r, cols_), kPattern, static_cast<size_t>((width_ - cols_) * size_of(dtype_)));
  }
  // One dim: [cols].
  Buffer(Dtype dtype, int64_t cols) : Buffer(dtype, 1, cols) { flat_ = true; }

  Tensor tensor() const {
    auto* memory = const_cast<unsigned char*>(bytes_.data());
    if (flat_) return Tensor(memory, dtype_, {cols_});
    return Tensor(memory, dtype_, {rows_, width_}).columns(0, cols_);
  }
  Tensor operator*() const { return tensor(); }

  // Normal numbers shift + scale * N(0, 1); `stream` keeps buffers apart.
  Buffer& random(uint64_t stream, double scale = 1, double shift = 0) {
    for (int64_t i = 0; i < rows_ * cols_; ++i)
      set(i, shift + scale * random_normal(7, Purpose::Test, stream, static_cast<uint64_t>(i)));
    return *this;
  }
  Buffer& fill(double value) {
    for (int64_t i = 0; i < rows_ * cols_; ++i) set(i, value);
    return *this;
  }
  Buffer& assign(const Vector& values) {
    REQUIRE(static_cast<int64_t>(values.size()) == rows_ * cols_);
    for (int64_t i = 0; i < rows_ * cols_; ++i) set(i, values[i]);
    return *this;
  }
  // Element i of [rows, cols], the gap not counted; rounded to the dtype.
  void set(int64_t i, double value) {
    void* to = at(i / cols_, i % cols_);
    switch (dtype_) {
      case Dtype::F32:
        return write(to, static_cast<float>(value));
      case Dtype::BF16:
        return write(to, bf16(static_cast<float>(value)));
      case Dtype::F64:
        return write(to, value);
      case Dtype::I32:
        return write(to, static_cast<int32_t>(value));
      default:
        throw Error(fmt::format("test buffers do not hold {}", name_of(dtype_)));
    }
  }
  double get(int64_t i) const {
    const void* from = const_cast<Buffer*>(this)->at(i / cols_, i % cols_);
    switch (dtype_) {
      case Dtype::F32:
        return read<float>(from);
      case Dtype::BF16:
        return static_cast<float>(read<bf16>(from));
      case Dtype::F64:
        return read<double>(from);
      case Dtype::I32:
        return read<int32_t>(from);
      default:
        throw Error(fmt::format("test buffers do not hold {}", name_of(dtype_)));
    }
  }
  Vector values() const {
    Vector out(static_cast<size_t>(rows_ * cols_));
    for (int64_t i = 0; i < rows_ * cols_; ++i) out[i] = get(i);
    return out;
  }
  bool gap_intact() const {
    for (int64_t r = 0; r < rows_; ++r) {
      const auto* from = static_cast<unsigned char*>(const_cast<Buffer*>(this)->at(r, cols_));
      for (int64_t i = 0; i < (width_ - cols_) * size_of(dtype_); ++i)
        if (from[i] != kPattern) return false;
    }
    return true;
  }
  const std::vector<unsigned char>& bytes() const { return bytes_; }

 private:
  static constexpr unsigned char kPattern = 0xA5;
  void* at(int64_t r, int64_t c) { return bytes_.data() + (r * width_ + c) * size_of(dtype_); }
  template <class E>
  static void write(void* to, E value) {
    std::memcpy(to, &value, sizeof value);
  }
  template <class E>
  static E read(const void* from) {
    E value;
    std::memcpy(&value, from, sizeof value);
    return value;
  }

  int64_t rows_, cols_, width_;
  Dtype dtype_;
  bool flat_ = false;
  std::vector<unsigned char> bytes_;
};

inline double dot(const Vector& a, const Vector& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

// |got - want| / |want| in the Euclidean norm; NaN where either has one. The absolute error where
// want is 0.
inline double relative_error(const Vector& got, const Vector& want) {
  REQUIRE(got.size() == want.size());
  double difference = 0, norm = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    difference += (got[i] - want[i]) * (got[i] - want[i]);
    norm += want[i] * want[i];
  }
  return std::sqrt(difference) / (norm > 0 ? std::sqrt(norm) : 1.0);
}
inline void check_close(const std::string& what, const Vector& got, const Vector& want,
                        double limit) {
  const double error = relative_error(got, want);
  INFO(what << ": relative error " << error << ", allowed " << limit);
  CHECK(error <= limit);  // false for NaN too
}
inline void check_close(const std::string& what, const Buffer& got, const Vector& want,
                        double limit) {
  check_close(what, got.values(), want, limit);
  INFO(what << ": wrote outside its view");
  CHECK(got.gap_intact());
}

// d f / d x by central differences; f is in double, so a step of 1e-5 leaves about 1e-9 of error.
inline Vector differences(const std::function<double(const Vector&)>& f, Vector x,
                          double step = 1e-5) {
  Vector out(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    const double keep = x[i];
    x[i] = keep + step;
    const double high = f(x);
    x[i] = keep - step;
    const double low = f(x);
    x[i] = keep;
    out[i] = (high - low) / (2 * step);
  }
  return out;
}
// The gradient `got` of one input against finite differences of `twin` (input -> output), seen
// through cotangent dy.
inline void check_gradient(const std::string& what, const Buffer& got, const Vector& x,
                           const Vector& dy, const std::function<Vector(const Vector&)>& twin,
                           double limit) {
  check_close(what, got, differences([&](const Vector& v) { return dot(twin(v), dy); }, x), limit);
}

// Calls f with `count` threads and puts the former number back.
template <class F>
auto with_threads(int count, F&& f) {
  struct Restore {
    int threads = omp_get_max_threads();
    ~Restore() { omp_set_num_threads(threads); }
  } restore;
  omp_set_dynamic(0);
  omp_set_num_threads(count);
  return f();
}
// f() makes its buffers anew, runs and returns them: std::vector<Buffer>. The bytes may not depend
// on the threads.
template <class F>
void check_threads(const std::string& what, F&& f) {
  const std::vector<Buffer> one = with_threads(1, f);
  for (int count : {2, 3}) {
    const std::vector<Buffer> more = with_threads(count, f);
    REQUIRE(one.size() == more.size());
    for (size_t i = 0; i < one.size(); ++i) {
      INFO(what << ": output " << i << " with 1 and with " << count << " threads");
      CHECK((one[i].bytes() == more[i].bytes()));
    }
  }
}

}  // namespace ft::test
