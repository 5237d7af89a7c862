// Work that several threads do and one thread takes in order: the result does not depend on how
// many there are, and memory is bounded however large a piece of work is.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

namespace ft {

template <class Part>
class OrderedWork {
 public:
  using Give = std::function<void(Part)>;

  // Starts threads that call work(0, give), ..., work(count - 1, give); each may give any number of
  // parts. At most kParts parts of each of the next `threads + 2` works wait for take().
  OrderedWork(size_t count, size_t threads, std::function<void(size_t, const Give&)> work)
      : count_(count), window_(threads + 2), work_(std::move(work)) {
    for (size_t t = 0; t < std::min(threads, count); ++t) threads_.emplace_back([this] { run(); });
  }
  ~OrderedWork() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    for (auto& thread : threads_) thread.join();
  }

  // The next part of work `index()`, of all works in order; false at the end. Throws what a work
  // threw, after the parts that it gave before.
  bool take(Part& part) {
    std::unique_lock lock(mutex_);
    for (; current_ < count_; ++current_, changed_.notify_all()) {
      Lane& lane = lanes_[current_];
      changed_.wait(lock, [&] { return !lane.parts.empty() || lane.done; });
      if (!lane.parts.empty()) {
        part = std::move(lane.parts.front());
        lane.parts.pop_front();
        changed_.notify_all();
        return true;
      }
      if (lane.failed) std::rethrow_exception(lane.failed);
      lanes_.erase(current_);
    }
    return false;
  }
  size_t index() const { return current_; }

 private:
  static constexpr size_t kParts = 4;
  struct Stopped {};
  struct Lane {
    std::deque<Part> parts;
    bool done = false;
    std::exception_ptr failed;
  };

  void run() {
    std::unique_lock lock(mutex_);
    while (!stop_ && next_ < count_) {
      const size_t mine = next_++;
      changed_.wait(lock, [&] { return stop_ || mine < current_ + window_; });
      if (stop_) return;
      Lane& lane = lanes_[mine];
      lock.unlock();
      std::exception_ptr failed;
      try {
        work_(mine, [&](Part part) { give(lane, std::move(part)); });
      } catch (const Stopped&) {
      } catch (...) {
        failed = std::current_exception();
      }
      lock.lock();
      lane.failed = failed;
      lane.done = true;
      changed_.notify_all();
    }
  }

  void give(Lane& lane, Part part) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return stop_ || lane.parts.size() < kParts; });
    if (stop_) throw Stopped{};
    lane.parts.push_back(std::move(part));
    changed_.notify_all();
  }

  size_t count_, window_;
  std::function<void(size_t, const Give&)> work_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stop_ = false;
  size_t next_ = 0, current_ = 0;
  std::map<size_t, Lane> lanes_;  // begun and not yet taken
  std::vector<std::thread> threads_;
};

}  // namespace ft
