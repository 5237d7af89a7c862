#include "core/transfer.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <thread>

namespace ft {

namespace {

constexpr size_t kAlign = 128;

struct Rows {
  int64_t rows, cols, pitch;  // elements
};

// As one row where both sides are without gaps. host_pitch 0: that of the tensor's columns.
Rows rows_of(const Tensor& t, int64_t host_pitch) {
  const int64_t cols = t.rows() > 0 ? t.size() / t.rows() : 0;
  if (t.dense() && (host_pitch == 0 || host_pitch == cols)) return {1, t.size(), t.size()};
  FT_CHECK(t.row_range(0, 1).dense(),
           "a tensor of {} dims with gaps within its rows cannot be copied", t.dims);
  return {t.rows(), cols, t.stride[0]};
}

void convert(void* to, Dtype to_type, const void* from, Dtype from_type, int64_t n) {
  if (to_type == from_type) {
    std::memcpy(to, from, static_cast<size_t>(n * size_of(to_type)));
  } else if (to_type == Dtype::BF16 && from_type == Dtype::F32) {
    for (int64_t i = 0; i < n; ++i)
      static_cast<bf16*>(to)[i] = bf16(static_cast<const float*>(from)[i]);
  } else if (to_type == Dtype::F32 && from_type == Dtype::BF16) {
    for (int64_t i = 0; i < n; ++i)
      static_cast<float*>(to)[i] = static_cast<float>(static_cast<const bf16*>(from)[i]);
  } else {
    throw Error(fmt::format("values of {} cannot become {} on their way between host and device",
                            name_of(from_type), name_of(to_type)));
  }
}

// f(row, rows, column, columns) for parts of at most kHalf bytes.
template <class F>
void for_parts(const Rows& all, int64_t element, F&& f) {
  const auto most = static_cast<int64_t>(Transfer::kHalf) / element;
  const int64_t cols = std::min(all.cols, most);
  if (cols == 0) return;
  const int64_t rows = most / cols;
  for (int64_t r = 0; r < all.rows; r += rows)
    for (int64_t c = 0; c < all.cols; c += cols)
      f(r, std::min(rows, all.rows - r), c, std::min(cols, all.cols - c));
}

}  // namespace

Transfer::~Transfer() {
  if (!memory_) return;
  device_.synchronize({});  // copies may still read it
  device_.release_host(memory_);
}

char* Transfer::room(size_t bytes) {
  if (!memory_) {
    memory_ = static_cast<char*>(device_.allocate_host(kBytes));
    for (auto& event : copied_) event = device_.event();
  }
  if (used_ + bytes > kHalf) {
    copied_[half_]->record({});
    half_ = 1 - half_, used_ = 0;
    copied_[half_]->wait();
  }
  char* at = memory_ + static_cast<size_t>(half_) * kHalf + used_;
  used_ += (bytes + kAlign - 1) / kAlign * kAlign;
  return at;
}

void Transfer::put(const Tensor& to, const void* from, Dtype host, int64_t pitch) {
  const Rows all = rows_of(to, pitch);
  const int64_t element = size_of(to.dtype), from_pitch = pitch ? pitch : all.cols;
  for_parts(all, element, [&](int64_t r, int64_t rows, int64_t c, int64_t cols) {
    const auto bytes = static_cast<size_t>(cols * element);
    char* staged = room(bytes * static_cast<size_t>(rows));
    for (int64_t i = 0; i < rows; ++i)
      convert(staged + static_cast<size_t>(i) * bytes, to.dtype,
              static_cast<const char*>(from) + ((r + i) * from_pitch + c) * size_of(host), host,
              cols);
    device_.copy_rows(static_cast<char*>(to.data) + (r * all.pitch + c) * element,
                      static_cast<size_t>(all.pitch * element), staged, bytes, bytes,
                      static_cast<size_t>(rows), {});
  });
}

void Transfer::get(const Tensor& from, void* to, Dtype host, int64_t pitch) {
  const Rows all = rows_of(from, pitch);
  const int64_t element = size_of(from.dtype), to_pitch = pitch ? pitch : all.cols;
  for_parts(all, element, [&](int64_t r, int64_t rows, int64_t c, int64_t cols) {
    const auto bytes = static_cast<size_t>(cols * element);
    char* staged = room(bytes * static_cast<size_t>(rows));
    device_.copy_rows(
        staged, bytes, static_cast<const char*>(from.data) + (r * all.pitch + c) * element,
        static_cast<size_t>(all.pitch * element), bytes, static_cast<size_t>(rows), {});
    device_.synchronize({});
    used_ = 0;  // no copy is under way
    for (int64_t i = 0; i < rows; ++i)
      convert(static_cast<char*>(to) + ((r + i) * to_pitch + c) * size_of(host), host,
              staged + static_cast<size_t>(i) * bytes, from.dtype, cols);
  });
}

namespace {

// f(i) for i in [0, n), shared out among threads; the first error is thrown.
void share_out(int64_t n, int threads, const std::function<void(int64_t)>& f) {
  const auto count = std::min<int64_t>(n, threads);
  if (count <= 1) {
    for (int64_t i = 0; i < n; ++i) f(i);
    return;
  }
  std::vector<std::exception_ptr> errors(static_cast<size_t>(count));
  std::vector<std::thread> at_work;
  for (int64_t t = 0; t < count; ++t)
    at_work.emplace_back([&, t] {
      try {
        for (int64_t i = n * t / count; i < n * (t + 1) / count; ++i) f(i);
      } catch (...) {
        errors[static_cast<size_t>(t)] = std::current_exception();
      }
    });
  for (std::thread& thread : at_work) thread.join();
  for (const std::exception_ptr& error : errors)
    if (error) std::rethrow_exception(error);
}

}  // namespace

void Transfer::fill(const Tensor& to, const std::function<void(int64_t row, float* to)>& f,
                    int threads) {
  const int64_t rows = to.rows(), cols = rows > 0 ? to.size() / rows : 0;
  if (cols == 0) return;
  const int64_t most = std::max<int64_t>(1, static_cast<int64_t>(kHalf) / 4 / cols);
  std::vector<float> values(static_cast<size_t>(std::min(most, rows) * cols));
  for (int64_t r = 0; r < rows; r += most) {
    const int64_t n = std::min(most, rows - r);
    share_out(n, threads, [&](int64_t i) { f(r + i, values.data() + i * cols); });
    upload(to.row_range(r, r + n), values.data());
  }
}

double Transfer::read(const Tensor& scalar) {
  double wide = 0;
  float narrow_value = 0;
  if (scalar.dtype == Dtype::F64) download(scalar, &wide);
  else download(scalar, &narrow_value), wide = static_cast<double>(narrow_value);
  return wide;
}

}  // namespace ft
