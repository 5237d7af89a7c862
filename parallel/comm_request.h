// Inside of comm_mpi.cpp: what a request is, and the deadline it lives under.
#pragma once

#include "core/check.h"
#include "parallel/comm.h"

// The C interface alone: the removed C++ bindings would need another library.
#ifndef OMPI_SKIP_MPICXX
#define OMPI_SKIP_MPICXX 1
#endif
#ifndef MPICH_SKIP_MPICXX
#define MPICH_SKIP_MPICXX 1
#endif
#include <mpi.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace ft {

namespace detail {

inline int64_t now_ns() { return std::chrono::steady_clock::now().time_since_epoch().count(); }

// The deadline of requests, and a stamp of each rank of this node in shared memory: who has not
// touched MPI for long is computing, stopped or gone, and is named when a deadline passes.
struct Pulse {
  struct Stamp {
    std::atomic<int64_t> at;  // CLOCK_MONOTONIC, one clock for all processes of a node
    std::atomic<int64_t> rank;
    std::atomic<int64_t> claimed;  // of the node's first stamp: the word, see World::claim_word
  };
  double timeout = 600;  // seconds
  bool broken = false;   // a deadline has passed: nothing more is waited for
  Stamp* mine = nullptr;
  std::vector<Stamp*> local;

  void beat() {
    if (mine) mine->at.store(now_ns(), std::memory_order_relaxed);
  }
  std::string silent() const {
    std::string names;
    for (const Stamp* s : local)
      if (static_cast<double>(now_ns() - s->at.load(std::memory_order_relaxed)) > timeout * 0.5e9)
        names += fmt::format("{}{}", names.empty() ? "" : ", ", s->rank.load());
    return names.empty() ? "" : fmt::format(" Silent on this node: rank {}.", names);
  }
};

}  // namespace detail

// A chain of non-blocking stages: each starts after the one before is done.
class Request::Impl {
 public:
  using Stage = std::function<std::vector<MPI_Request>()>;
  Impl(std::vector<Stage> stages, detail::Pulse* pulse, std::string what)
      : stages_(std::move(stages)), pulse_(pulse), what_(std::move(what)) {}

  bool test() {
    pulse_->beat();
    while (true) {
      if (!pending_.empty()) {
        int done = 0;
        MPI_Testall(static_cast<int>(pending_.size()), pending_.data(), &done, MPI_STATUSES_IGNORE);
        if (!done) return false;
        pending_.clear();
      }
      if (next_ == stages_.size()) return true;
      pending_ = stages_[next_++]();
    }
  }

  void wait() {
    const auto begin = std::chrono::steady_clock::now();
    for (int64_t polls = 0; !test(); ++polls) {
      if (polls < 2000) continue;
      ::usleep(polls < 4000 ? 1 : 50);
      const double waited =
          std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
      pulse_->broken = pulse_->broken || waited >= pulse_->timeout;
      FT_CHECK(waited < pulse_->timeout,
               "{}: no answer from other ranks within {} s (run.timeout).{} A rank has stopped or "
               "hangs; look at the "
               "last line of each rank's output",
               what_, pulse_->timeout, pulse_->silent());
    }
  }

  // For the end of a request nobody waited for. MPI may still use the memory of one that cannot be
  // finished (a deadline passed, or an error is on its way out), so that one is left alone for
  // good.
  static void drop(std::unique_ptr<Impl>& impl) noexcept {
    if (!impl) return;
    try {
      if (!impl->test()) {
        if (impl->pulse_->broken || std::uncaught_exceptions() > 0) {
          (void)impl.release();
          return;
        }
        impl->wait();
      }
      impl.reset();
    } catch (...) {
      (void)impl.release();
    }
  }

 private:
  std::vector<Stage> stages_;
  size_t next_ = 0;
  std::vector<MPI_Request> pending_;
  detail::Pulse* pulse_;
  std::string what_;
};

}  // namespace ft
