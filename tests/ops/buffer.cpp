#include "tests/ops/buffer.h"

#include "tests/catch.h"

#include "core/rng.h"
#include "cpu/device.h"
#include "cuda/device.h"
#include "tests/protected_device.h"

#include <omp.h>

#include <cstdlib>
#include <cstring>

namespace ft::test {

namespace {

constexpr std::byte kPattern{0xFF};  // NaN in every float
Bench* g_bench = nullptr;

template <class E, class V>
void put_as(std::byte* to, V value) {
  const E e(value);
  std::memcpy(to, &e, sizeof e);
}
template <class E>
E get_as(const std::byte* from) {
  E e;
  std::memcpy(&e, from, sizeof e);
  return e;
}

}  // namespace

const std::vector<Backend>& backends() {
  static const std::vector<Backend> all{
      {"the CPU", [] { return cpu::open_device(omp_get_max_threads()); }},
      std::getenv("FT_TEST_GPU") ? Backend{"the GPU", [] { return cuda::open_device(0); }}
                                 : Backend{"the protected device", []() -> std::unique_ptr<Device> {
                                             cpu::use_threads(omp_get_max_threads());
                                             return std::make_unique<ProtectedDevice>();
                                           }}};
  return all;
}

Bench::Bench(const Backend& backend)
    : name_(backend.name), before_(g_bench), device(backend.open()), c(*device, scratch, true) {
  c.where = "test";
  g_bench = this;
}
Bench::~Bench() { g_bench = before_; }
Bench& Bench::now() {
  REQUIRE(g_bench);
  return *g_bench;
}

struct Buffer::Memory {
  Bench& bench = Bench::now();
  void* data;
  explicit Memory(size_t bytes) : data(bench.device->allocate(bytes)) {}
  ~Memory() { bench.device->release(data); }
  Memory(const Memory&) = delete;
};

Buffer::Buffer(Dtype dtype, int64_t rows, int64_t cols, int64_t gap)
    : rows_(rows),
      cols_(cols),
      gap_(gap),
      dtype_(dtype),
      bytes_(static_cast<size_t>(rows * (cols + 2 * gap) * size_of(dtype)), kPattern) {}
Buffer::Buffer(Dtype dtype, int64_t cols) : Buffer(dtype, 1, cols) { flat_ = true; }
Buffer::Buffer(const std::vector<int32_t>& values)
    : Buffer(Dtype::I32, static_cast<int64_t>(values.size())) {
  for (int64_t i = 0; i < cols_; ++i) write(i, values[static_cast<size_t>(i)]);
}
Buffer::Buffer(const void* bytes, size_t count) : Buffer(Dtype::U8, static_cast<int64_t>(count)) {
  if (count > 0) std::memcpy(bytes_.data(), bytes, count);
}
Buffer::Buffer(const Buffer& other)
    : rows_(other.rows_),
      cols_(other.cols_),
      gap_(other.gap_),
      dtype_(other.dtype_),
      flat_(other.flat_),
      bytes_(other.host()) {}

Tensor Buffer::tensor() const {
  if (!memory_) {
    memory_ = std::make_shared<Memory>(std::max<size_t>(bytes_.size(), 1));
    upload();
  }
  REQUIRE(&memory_->bench == &Bench::now());
  if (flat_) return Tensor(memory_->data, dtype_, {cols_});
  return Tensor(memory_->data, dtype_, {rows_, cols_ + 2 * gap_}).columns(gap_, gap_ + cols_);
}

void Buffer::upload() const {
  if (!memory_ || bytes_.empty()) return;
  Bench& bench = memory_->bench;
  bench.device->copy(memory_->data, bytes_.data(), bytes_.size(), Stream{});
  bench.device->synchronize(Stream{});
  read_at_ = bench.runs();
}

const std::vector<std::byte>& Buffer::host() const {
  if (memory_ && !bytes_.empty() && read_at_ != memory_->bench.runs()) {
    Bench& bench = memory_->bench;
    bench.device->copy(bytes_.data(), memory_->data, bytes_.size(), Stream{});
    bench.device->synchronize(Stream{});
    read_at_ = bench.runs();
  }
  return bytes_;
}

Buffer& Buffer::random(uint64_t stream, double scale, double shift) {
  for (int64_t i = 0; i < rows_ * cols_; ++i)
    write(i, shift + scale * random_normal(7, Purpose::Test, stream, static_cast<uint64_t>(i)));
  upload();
  return *this;
}

Buffer& Buffer::uniform(std::mt19937_64& random, double scale, double shift) {
  std::uniform_real_distribution<double> distribution(-1, 1);
  for (int64_t i = 0; i < rows_ * cols_; ++i) write(i, shift + scale * distribution(random));
  upload();
  return *this;
}

Buffer& Buffer::fill(double value) {
  for (int64_t i = 0; i < rows_ * cols_; ++i) write(i, value);
  upload();
  return *this;
}

Buffer& Buffer::assign(const Vector& values) {
  REQUIRE(static_cast<int64_t>(values.size()) == rows_ * cols_);
  for (int64_t i = 0; i < rows_ * cols_; ++i) write(i, values[static_cast<size_t>(i)]);
  upload();
  return *this;
}

void Buffer::set(int64_t i, double value) {
  host();
  write(i, value);
  upload();
}

size_t Buffer::offset(int64_t i) const {
  return static_cast<size_t>((i / cols_ * (cols_ + 2 * gap_) + gap_ + i % cols_) * size_of(dtype_));
}

void Buffer::write(int64_t i, double value) {
  std::byte* to = bytes_.data() + offset(i);
  switch (dtype_) {
    case Dtype::F32:
      return put_as<float>(to, static_cast<float>(value));
    case Dtype::BF16:
      return put_as<bf16>(to, static_cast<float>(value));
    case Dtype::F64:
      return put_as<double>(to, value);
    case Dtype::I32:
      return put_as<int32_t>(to, static_cast<int32_t>(value));
    default:
      throw Error(fmt::format("test buffers do not hold {}", name_of(dtype_)));
  }
}

double Buffer::get(int64_t i) const {
  const std::byte* from = host().data() + offset(i);
  switch (dtype_) {
    case Dtype::F32:
      return get_as<float>(from);
    case Dtype::BF16:
      return static_cast<float>(get_as<bf16>(from));
    case Dtype::F64:
      return get_as<double>(from);
    case Dtype::I32:
      return get_as<int32_t>(from);
    default:
      throw Error(fmt::format("test buffers do not hold {}", name_of(dtype_)));
  }
}

Vector Buffer::values() const {
  Vector out(static_cast<size_t>(rows_ * cols_));
  for (int64_t i = 0; i < rows_ * cols_; ++i) out[static_cast<size_t>(i)] = get(i);
  return out;
}

bool Buffer::gap_intact() const {
  const std::vector<std::byte>& now = host();
  const size_t size = static_cast<size_t>(size_of(dtype_)), gap = static_cast<size_t>(gap_) * size,
               width = static_cast<size_t>(cols_) * size + 2 * gap;
  for (size_t i = 0; i < now.size(); ++i) {
    const bool inside = i % width >= gap && i % width < width - gap;
    if (!inside && now[i] != kPattern) return false;
  }
  return true;
}

}  // namespace ft::test
