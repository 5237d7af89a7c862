// Loops over threads whose errors come out as errors. An exception cannot leave an `omp parallel`:
// the process would end without a word. So what is thrown inside is kept, and thrown again behind
// the region: of several the one with the lowest index, however many threads there are.
#pragma once

#include <cstdint>
#include <exception>
#include <limits>
#include <utility>
#include <mutex>

namespace ft::cpu {

class Thrown {
 public:
  // f(), part `index` of the region's work.
  template <class F>
  void guard(int64_t index, F&& f) noexcept {
    try {
      f();
    } catch (...) {
      keep(index, std::current_exception());
    }
  }
  // After the region.
  void rethrow() const {
    if (first_) std::rethrow_exception(first_);
  }

 private:
  void keep(int64_t index, std::exception_ptr error) {
    const std::lock_guard lock(mutex_);
    if (index >= index_) return;
    index_ = index, first_ = std::move(error);
  }

  std::mutex mutex_;
  int64_t index_ = std::numeric_limits<int64_t>::max();
  std::exception_ptr first_;
};

// f(i) for i in [0, count), equal shares of neighbours to each thread.
template <class F>
void parallel_for(int64_t count, F&& f) {
  Thrown thrown;
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < count; ++i) thrown.guard(i, [&] { f(i); });
  thrown.rethrow();
}

}  // namespace ft::cpu
